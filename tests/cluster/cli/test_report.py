"""`nascluster report`: the file, errors on bad input, and the server."""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.cli import main as cli
from cluster.cli.report import target
from cluster.config.flags import UsageError
from cluster.config.task_options import TaskOptions
from cluster.report.serving import PageServer
from cluster.storage.run_folder import RunFolder
from tests.cluster.report.ledgers import CONFIG, filled_run
from tests.cluster.report.well_formed import read_page


def report(storage: Path, *arguments: object) -> int:
    return cli.run(["report", *map(str, arguments), "--storage-path", str(storage)])


def test_the_report_is_written_into_the_runs_folder_or_to_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = filled_run(tmp_path, 20)
    assert report(tmp_path, "run") == 0
    assert capsys.readouterr().out == f"{folder.path / 'report.html'}\n"
    assert "run" in read_page((folder.path / "report.html").read_text()).words
    assert report(tmp_path, "run", "--output", tmp_path / "other.html") == 0
    assert (tmp_path / "other.html").exists()
    assert sorted(path.name for path in tmp_path.rglob("*html*")) == ["other.html", "report.html"]


def test_the_report_of_a_run_in_an_object_store_is_written_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = RunFolder(tmp_path / "copy" / "far", url="s3://bucket/runs")
    assert target(copy, None) == tmp_path / "far-report.html"
    assert target(copy, Path("x.html")) == tmp_path / "x.html"


def test_another_run_is_plotted_too(tmp_path: Path) -> None:
    folder = filled_run(tmp_path, 20)
    filled_run(tmp_path, 20, name="beside")
    assert report(tmp_path, "run", "--compare", "beside") == 0
    assert "best so far, beside" in (folder.path / "report.html").read_text()


def test_a_run_on_other_data_is_plotted_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = filled_run(tmp_path, 20)
    filled_run(tmp_path, 20, name="other", config=replace(CONFIG, task=TaskOptions(task="digits", data="/elsewhere")))
    assert report(tmp_path, "run", "--compare", "other") == 0
    warning, path = capsys.readouterr().out.splitlines()
    assert warning.startswith("Mind: The run other has another data folder: the two runs are drawn in one plot")
    assert path == str(folder.path / "report.html")


def test_a_run_of_another_measure_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled_run(tmp_path, 20)
    filled_run(tmp_path, 20, name="other", config=replace(CONFIG, reward="accuracy"))
    assert report(tmp_path, "run", "--compare", "other") == 2
    assert (
        "'other' cannot be compared with a run of another measure: it has the accuracy and" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no run named 'nothing'"),
        (["run", "--compare", "nothing"], "no run named 'nothing'"),
        (["run", "--compare", "run"], "must name another run than 'run'"),
        (["run", "--watch", "--output", "x.html"], "give one of them"),
        (["run", "--port", "80"], "goes with `--watch`"),
        (["run", "--watch", "--port", "70000"], "must be 0 to 65535"),
        (["run", "--output", "/nowhere/at/all/x.html"], "cannot be written: No such file or directory"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled_run(tmp_path, 5)
    assert report(tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("has_browser", [True, False])
def test_open_shows_the_file_in_a_browser(
    has_browser: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, shown = filled_run(tmp_path, 5), []
    monkeypatch.setattr("webbrowser.open", lambda url: shown.append(url) or has_browser)
    assert report(tmp_path, "run", "--open") == 0
    assert shown == [(folder.path / "report.html").as_uri()]
    assert ("open file://" in capsys.readouterr().out) == (not has_browser)


@contextmanager
def served(build: list[str]) -> Iterator[PageServer]:
    """Serve the pages of the list one after another; an empty list is an error."""

    def take() -> str:
        if not build:
            raise UsageError("no page")
        return build.pop(0)

    with PageServer(take, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server: PageServer, path: str = "/", host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.request("GET", path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_each_request_builds_the_page_again() -> None:
    with served(["one", "two"]) as server:
        assert [ask(server), ask(server)] == [(200, "one"), (200, "two")]
        assert ask(server) == (503, "no page\n")


def test_the_page_is_served_on_loopback_and_to_no_other_site() -> None:
    with served(["one"]) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert ask(server, host="evil.example")[0] == 403
        assert ask(server, host=f"evil.example:{server.server_port}")[0] == 403
        assert ask(server, "/../config.json")[0] == 404
        assert ask(server, host=f"localhost:{server.server_port}") == (200, "one")


def test_a_taken_port_is_an_error() -> None:
    with served([]) as server, pytest.raises(UsageError, match=f"`--port` {server.server_port} cannot be listened on"):
        PageServer(str, server.server_port)


def test_neither_torch_nor_ray_is_needed(tmp_path: Path) -> None:
    filled_run(tmp_path, 20)
    code = (
        "import sys; from cluster.cli import main as cli; assert cli.run(sys.argv[1:]) == 0;"
        "print({'torch', 'numpy', 'ray'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, "report", "run", "--storage-path", str(tmp_path)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert out.splitlines()[-1] == "set()"


def test_watching_serves_the_page_until_ctrl_c(tmp_path: Path) -> None:
    filled_run(tmp_path, 20)
    command = [sys.executable, "-m", "cluster", "report", "run", "--watch", "--storage-path", str(tmp_path)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            message = re.search(r"http://127\.0\.0\.1:(\d+)/ until Ctrl-C", process.stdout.readline())
            assert message is not None
            connection = http.client.HTTPConnection("127.0.0.1", int(message[1]), timeout=10)
            connection.request("GET", "/")
            assert "20 of 200,000" in read_page(connection.getresponse().read().decode()).words
            connection.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == ""
