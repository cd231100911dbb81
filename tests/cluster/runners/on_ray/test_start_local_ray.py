"""Starting a Ray of one's own on a machine that is too busy. Ray itself is stood in for; its processes are real."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import ray
import torch

from cluster.runners.on_ray import handles, shard_hosts
from cluster.runners.on_ray.credentials import CredentialsError, make_token
from cluster.runners.on_ray.handles import StoreShards
from cluster.runners.on_ray.probe_head import ClusterError, check_address
from cluster.runners.on_ray.start_local_ray import TOO_SLOW, WORKER_NICENESS, check_folder, module_folders, start_ray
from ps.errors import StoreUnavailable
from ps.rpc.client import GrpcStore
from tests.cluster.searches import run_folder
from tests.contracts.parameter_store import sgd_layout
from tests.waiting import until

ROOT = Path(__file__).parents[4]


class Context:
    def __init__(self) -> None:
        self.address_info = {"address": "127.0.0.1:6379"}


@pytest.fixture
def begun() -> list[subprocess.Popen[bytes]]:
    return []


def begin(program: str = f"{Path(ray.__file__).parent}/core/gcs_server") -> "subprocess.Popen[bytes]":
    """Begin a process that stays, and is called as one of Ray's."""
    process = subprocess.Popen([program, "60"], executable="/bin/sleep")
    # The system has its name a moment after it has begun.
    until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes(), "the process's name")
    return process


def too_slow(begun: list[subprocess.Popen[bytes]], times: int) -> Callable[..., Any]:
    """`ray.init`, which begins a process that stays, and gives up so many times as Ray does."""

    def init(**_: object) -> Context:
        begun.append(begin())
        if len(begun) <= times:
            raise Exception(f"The current node {TOO_SLOW}. This could happen because")
        return Context()

    return init


def test_it_is_tried_once_more_and_nothing_stays_of_the_first(
    begun: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", too_slow(begun, times=1))
    said: list[str] = []
    assert start_ray(2, said.append) == "127.0.0.1:6379"
    assert begun[0].wait(timeout=5) == -9
    assert begun[1].poll() is None
    begun[1].kill()
    begun[1].wait()
    assert len(said) == 1 and "trying again" in said[0]


def test_the_second_failure_is_raised(begun: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", too_slow(begun, times=9))
    with pytest.raises(ClusterError, match="twice: this machine is too busy"):
        start_ray(2, lambda _: None)
    assert [process.wait(timeout=5) for process in begun] == [-9, -9]


def test_a_process_that_another_thread_has_begun_meanwhile_stays(
    begun: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[subprocess.Popen[bytes]] = []

    def init(**_: object) -> None:
        thread = threading.Thread(target=lambda: others.append(begin("mine")))
        thread.start()
        thread.join()
        begun.append(begin())
        raise RuntimeError("Failed to start GCS.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(RuntimeError, match="Failed to start GCS"):
        start_ray(2, lambda _: None)
    assert [process.wait(timeout=5) for process in begun] == [-9]
    assert others[0].poll() is None
    others[0].kill()
    others[0].wait()


def test_what_else_is_wrong_is_not_tried_again_and_nothing_stays_of_it(
    begun: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: object) -> None:
        begun.append(begin())
        raise RuntimeError("Failed to start GCS.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(RuntimeError, match="Failed to start GCS"):
        start_ray(2, lambda _: None)
    assert [process.wait(timeout=5) for process in begun] == [-9]


TWO_TOKENS = """
import os, ray
from cluster.runners.on_ray.credentials import make_token
from cluster.runners.on_ray.start_local_ray import start_ray
for home in HOMES:
    os.environ["HOME"] = home
    make_token(os.environ, home.rjust(32, "-"))
    start_ray(1, print)
    print(ray.get(ray.remote(lambda: open(os.path.expanduser("~/.ray/auth_token")).read()).remote()))
    ray.shutdown()
"""


def test_a_process_that_starts_two_may_have_another_token_the_second_time(tmp_path: Path) -> None:
    """As a notebook after `ray get-auth-token --generate`: Ray keeps the first token that it has read."""
    homes = [str(tmp_path / name) for name in ("first", "second")]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    code = f"HOMES = {homes}\n{TWO_TOKENS}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [home.rjust(32, "-") for home in homes], done.stderr


@pytest.mark.parametrize(("set_by_user", "seen"), [(None, "0"), ("7", "7")])
def test_workers_are_no_nicer_than_this_process_unless_the_user_says_so(
    set_by_user: str | None, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tests/deploy/test_spot_notice.py` asks a worker of a real Ray."""
    if set_by_user is None:
        monkeypatch.delenv(WORKER_NICENESS, raising=False)
    else:
        monkeypatch.setenv(WORKER_NICENESS, set_by_user)
    found: list[str | None] = []

    def init(**_: object) -> Context:
        found.append(os.environ.get(WORKER_NICENESS))
        return Context()

    monkeypatch.setattr(ray, "init", init)
    start_ray(1, lambda _: None)
    assert found == [seen]


def test_rays_words_are_still_these() -> None:
    import inspect

    from ray._private.node import Node

    assert TOO_SLOW in inspect.getsource(Node)


# --- What Ray needs of the surroundings --------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("x" * 70, "have at most 107 bytes, which leaves 4"),
        ("a/b/" * 20, "have at most 107 bytes"),
        ("ü", "must have a path in ASCII"),
        ("日本", "must have a path in ASCII"),
        ("file", r"cannot be made there \(Not a directory\)"),
    ],
)
def test_a_folder_that_ray_cannot_use_is_one_sentence(variable: str, folder: str, reason: str) -> None:
    with TemporaryDirectory(prefix="n", dir="/tmp") as short:
        (Path(short) / "file").touch()
        with pytest.raises(
            ClusterError, match=f"{variable} is '{short}/{folder}', but .*{reason}.*: set RAY_TMPDIR to"
        ):
            check_folder({variable: f"{short}/{folder}"})


def test_a_folder_that_ray_can_use_is_made() -> None:
    with TemporaryDirectory(prefix="n", dir="/tmp") as short:
        check_folder({"RAY_TMPDIR": f"{short}/new", "TMPDIR": "/proc/x"})
        assert (Path(short) / "new" / "ray").is_dir()


FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}));"


def test_too_few_open_files_are_one_sentence_before_ray_is_started() -> None:
    program = FILES.format(soft=64, hard=100) + "from cluster.cli.main import main; main()"
    command = [sys.executable, "-c", program, "launch", "synthetic", "--max-children", "2", "--name", "few"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "a process may have 100 files open here (`ulimit -n`), and Ray needs 128: allow it more" in done.stderr
    assert not run_folder("few").exists()


@pytest.mark.parametrize(("soft", "hard", "expected"), [(64, 200, 200), (64, 9000, 4096), (5000, 9000, 5000)])
def test_open_files_are_allowed_as_far_as_they_may_be(soft: int, hard: int, expected: int) -> None:
    program = (
        FILES.format(soft=soft, hard=hard)
        + "from cluster.runners.on_ray.start_local_ray import allow_open_files as allow; allow();"
        + "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"({expected}, {hard})\n"


def test_our_code_comes_before_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    first, *others = module_folders()
    assert (Path(first) / "cluster" / "api" / "python_api.py").is_file()
    assert str(tmp_path) in others


@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(120)
def test_modules_of_the_user_with_our_names_hide_nothing_from_workers(tmp_path: Path) -> None:
    for name in ("cluster", "ps", "child_trainer", "controller"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is the wrong one')\n")
    code = "import sys; from cluster.cli.main import run; sys.exit(run(sys.argv[1:]))"
    words = ["launch", "synthetic", "--name", "hidden", "--max-children", "4", "--storage-path", str(tmp_path / "runs")]
    root = str(Path(__file__).parents[4])
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 children finished" in done.stdout


@pytest.mark.parametrize("name", ["cluster", "ps", "controller", "child_trainer"])
@pytest.mark.parametrize("package", [True, False])
def test_an_import_says_which_file_hides_ours(name: str, package: bool, tmp_path: Path) -> None:
    file = tmp_path / name / "__init__.py" if package else tmp_path / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.touch()
    done = subprocess.run(
        [sys.executable, "-c", "import nascluster"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"ImportError: {file} hides the package `{name}` of nascluster: rename it" in done.stderr


@pytest.mark.parametrize(
    ("address", "message"),
    [("::1:6379", r"must have an IPv6 address in brackets, such as \[::1\]:6379"), ("[::1]:1", "refused")],
)
def test_ipv6_addresses_are_in_brackets(address: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        check_address(address)


def test_an_ipv6_address_in_brackets_is_reached() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        address = f"[::1]:{server.getsockname()[1]}"
        assert check_address(address) == address


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CredentialsError, match=f"HOME is '{tmp_path}/file', but .*: set HOME to a folder that can be"):
        make_token({"HOME": str(tmp_path / "file")}, "secret")


# --- Shards that are out of reach --------------------------------------------------------------------------------


def test_an_interrupt_while_shards_are_out_of_reach_ends_the_store_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layout = sgd_layout(shards=2)
    store = GrpcStore(layout, ["127.0.0.1:9"] * 2, retry_timeout_s=300)
    monkeypatch.setattr(shard_hosts, "actor", lambda name: None)
    monkeypatch.setattr(shard_hosts, "open_store", lambda *_, **__: store)
    monkeypatch.setattr(shard_hosts, "initial_values", lambda groups: {"x": torch.ones(10)})
    monkeypatch.setattr(ray, "get", lambda calls: [None for _ in calls])
    threading.Timer(1.0, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)).start()
    began = time.monotonic()
    token: Any = None
    with pytest.raises(KeyboardInterrupt):
        shard_hosts.give_first_values(StoreShards(store="policy", layout=layout, directory=tmp_path), [], (), token)
    assert time.monotonic() - began < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("grpc-store")]


def test_after_a_shutdown_no_address_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call would start a second Ray."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr(handles, "shards_tls", lambda _: None)
    ledger: Any = None
    token: Any = type("Token", (), {"secret": lambda *_: None})()
    store = handles.open_store(sgd_layout(shards=1), ledger, token, retry_timeout_s=0.0)
    with pytest.raises(StoreUnavailable, match="Ray has been shut down"):
        store.pull()
    store.close()
