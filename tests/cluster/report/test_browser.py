"""The page in a real Chromium: nothing in the console, nothing asked of the network, every plot drawn."""

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from child_trainer.architectures.architecture import Architecture
from child_trainer.architectures.nasbench201 import network
from cluster.config.run_config import RunConfig
from cluster.config.task_options import TaskOptions
from cluster.report.page import page
from cluster.report.read import read_facts
from cluster.report.serving import PageServer
from cluster.storage.ledger.graphs import GraphTable
from cluster.storage.run_folder import RunFolder
from tests.cluster.report.chromium import BINARY, Tab, chromium, open_tab
from tests.cluster.report.ledgers import CONFIG, START, filled_run, ledger
from tests.cluster.report.test_drawing import golden_cell
from tests.golden import architecture, densely_connected

pytestmark = pytest.mark.skipif(BINARY is None, reason="Chromium is not installed (Debian: apt-get install chromium)")

NOW = START + 10_000_000

EMPTY_PLOTS = """
[...document.querySelectorAll("figure.chart svg, figure.small svg, svg.network")].filter(svg => {
    const box = svg.getBoundingClientRect();
    const marks = [...svg.querySelectorAll("path, circle, rect")].filter(mark => {
        const drawn = mark.getBoundingClientRect();
        return drawn.width + drawn.height > 0 && getComputedStyle(mark).visibility === "visible";
    });
    return box.width < 60 || box.height < 5 || marks.length === 0;
}).map(svg => svg.getAttribute("aria-label"))
"""

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


CUT_OFF = """
[...document.querySelectorAll(".card")].filter(card => {
    const drawn = card.querySelector(".drawn"), svg = drawn.querySelector("svg").getBoundingClientRect();
    return drawn.scrollWidth > drawn.clientWidth || svg.right > card.getBoundingClientRect().right;
}).map(card => card.querySelector("h3").textContent)
"""

PAPER = {"width": 688, "height": 1017, "deviceScaleFactor": 1, "mobile": False}
"""What the margins leave of a page of A4, in pixels of CSS."""


CELLS = replace(
    CONFIG, name="run", space="recurrent", space_options=None, task=TaskOptions(task="text"), reward="perplexity"
)


def run_of(found: Architecture, config: RunConfig, storage: Path) -> RunFolder:
    """A run all of whose children are this one."""
    folder = filled_run(storage, 200)
    folder.config.write_text(json.dumps(config.to_json()))
    with ledger(folder) as db:
        db.execute("UPDATE children SET graph = ?", (GraphTable(db).add(found),))
    return folder


def in_browser(profile: Path, visit: Callable[[Tab], Awaitable[None]]) -> Tab:
    """Do this with a tab, and give the tab back for what it has seen."""

    async def drive(port: int) -> Tab:
        async with aiohttp.ClientSession() as session:
            tab = await open_tab(session, port)
            await visit(tab)
            return tab

    with chromium(profile) as port:
        return asyncio.run(drive(port))


def running(folder: RunFolder, state: str) -> None:
    with ledger(folder) as db:
        db.execute("UPDATE run SET value = ? WHERE key = 'state'", (state,))


def test_the_page_as_a_reader_meets_it(tmp_path: Path) -> None:
    folder = filled_run(tmp_path, 200)
    file = folder.path / "report.html"
    facts = read_facts(folder, NOW, filled_run(tmp_path, 50, name="<other>"))
    file.write_text(page(facts))

    async def visit(tab: Tab) -> None:
        await tab.visit(file.as_uri())
        assert await tab.evaluate("document.querySelectorAll('figure.chart svg').length") == 13
        assert await tab.evaluate("document.querySelectorAll('svg.network').length") == 5
        assert await tab.evaluate(EMPTY_PLOTS) == []

        shown = "document.querySelector('.picture pre.json').checkVisibility()"
        assert not await tab.evaluate(shown)
        await tab.evaluate(
            "document.querySelector('.picture svg').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
        )
        assert await tab.evaluate(shown)
        text = await tab.evaluate("document.querySelector('.picture pre.json').textContent")
        assert json.loads(text) == facts.best[0].architecture.to_json()

        colours = {}
        for scheme in ("light", "dark"):
            await tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            found = await tab.evaluate(
                "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
            )
            colours[scheme] = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in found]
        assert colours["light"][0] > colours["light"][1] + 500  # light paper, dark ink: sums of red, green and blue
        assert colours["dark"][0] < colours["dark"][1] - 500

        for width in (360, 1280):
            await tab.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=740, deviceScaleFactor=1, mobile=width < 500
            )
            assert await tab.evaluate(OVERFLOW) == 0

    tab = in_browser(tmp_path / "profile", visit)
    assert tab.complaints() == []
    assert set(tab.requests()) == {file.as_uri()}


async def _turn(tab: Tab, **size: object) -> None:
    await tab.call("Emulation.setDeviceMetricsOverride", **size)


@pytest.mark.parametrize(
    ("found", "config"),
    [
        (golden_cell(), CELLS),
        (architecture(densely_connected()), replace(CONFIG, name="run")),
        (network(("nor_conv_3x3",) * 6), replace(CONFIG, name="run")),
    ],
    ids=["the paper's cell", "15 layers", "134 layers"],
)
def test_no_drawing_is_cut_off_on_a_screen_or_on_paper(found: Architecture, config: RunConfig, tmp_path: Path) -> None:
    folder = run_of(found, config, tmp_path)
    file = folder.path / "report.html"
    file.write_text(page(read_facts(folder, NOW)))

    async def visit(tab: Tab) -> None:
        await _turn(tab, width=1280, height=740, deviceScaleFactor=1, mobile=False)
        await tab.visit(file.as_uri())
        assert await tab.evaluate("document.querySelectorAll('.card').length") == 5
        assert await tab.evaluate(EMPTY_PLOTS) == []
        assert await tab.evaluate(CUT_OFF) == []
        assert await tab.evaluate(OVERFLOW) == 0

        await _turn(tab, **PAPER)
        await tab.call("Emulation.setEmulatedMedia", media="print")
        assert await tab.evaluate(CUT_OFF) == []
        assert await tab.evaluate(OVERFLOW) == 0
        # The first of them is on the first page, and the JSON of one that was opened on none.
        end = await tab.evaluate("document.querySelector('.card').getBoundingClientRect().bottom")
        assert end < PAPER["height"]
        await tab.evaluate("document.querySelector('.picture').open = true")
        assert await tab.evaluate("document.querySelector('.picture pre.command').checkVisibility()")
        assert not await tab.evaluate("document.querySelector('.picture pre.json').checkVisibility()")

    tab = in_browser(tmp_path / "profile", visit)
    assert tab.complaints() == []


def test_a_watched_page_follows_the_search_until_it_ends(tmp_path: Path) -> None:
    folder = filled_run(tmp_path, 20)
    running(folder, "running")
    with folder.held(), PageServer(lambda: page(read_facts(folder, NOW), watched=True), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()

        async def visit(tab: Tab) -> None:
            await tab.visit(server.url)
            assert await tab.evaluate("document.title") == "run: running"
            await tab.evaluate("document.querySelector('.picture').open = true")
            running(folder, "finished")
            await tab.becomes("document.title === 'run: finished'")
            assert await tab.evaluate("document.querySelector('.badge').textContent") == "finished"
            assert await tab.evaluate("document.querySelector('.picture').open")  # what was open stays open
            assert await tab.evaluate(EMPTY_PLOTS) == []

        try:
            tab = in_browser(tmp_path / "profile", visit)
        finally:
            server.shutdown()
            thread.join()
    assert tab.complaints() == []
    assert {url.partition("favicon")[0] for url in tab.requests()} == {server.url}
