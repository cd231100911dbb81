"""Asks a cluster's head for its facts, in a process of its own.

With a wrong address Ray tries for a minute, with a wrong token for 20 s, and without a token that its settings require
it ends the process. A separate process can be stopped, and how it ends tells what is wrong.

`python -m cluster.runners.on_ray.probe_head HOST:PORT` prints the answer as one line of JSON.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cluster.formatting import first_line, last_line
from cluster.placement.cluster_state import ClusterFacts
from cluster.runners.on_ray.credentials import MODE, sending_token
from cluster.runners.on_ray.probe_process import run_probe

ANSWER_TIMEOUT_S = 15.0
"""Timeout for a head's answer; the start of the probe process is part of it."""

SET_TOKEN = "set RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token to the cluster's token"

CONNECT_TIMEOUT_S = 10.0
"""Timeout for a connection to a named machine."""


class ClusterError(ValueError):
    """A named cluster cannot be joined, or a Ray cannot be started."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the head gave no answer, and what would be right.

    Attributes:
        reason, do: as in a doctor's finding.
        foreign: the head requires other credentials than this process has.
    """

    reason: str
    do: str = "check that it is up: `ray status` on its head"
    foreign: bool = False

    def __str__(self) -> str:
        return f"{self.reason}; {self.do}"


def check_address(address: str) -> str:
    """Return the address if it is valid and accepts connections, which Ray itself would take minutes to find out.

    Raises:
        ClusterError: it is not valid, or accepts no connections.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "://" in host:
        raise ClusterError(
            f"RAY_ADDRESS must be host:port, auto or local (Ray Client's ray:// is not), got {address!r}"
        )
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ClusterError(f"RAY_ADDRESS must have an IPv6 address in brackets, such as [::1]:6379, got {address!r}")
    if problem := unreachable(address):
        raise ClusterError(f"RAY_ADDRESS is {address!r}, but no Ray cluster answers there ({problem})")
    return address


def unreachable(address: str) -> str:
    """Return why host:port accepts no connections; empty if it does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:  # the latter two: no port, no name
        return getattr(error, "strerror", None) or str(error)
    return ""


def probe_head(
    address: str, timeout_s: float = ANSWER_TIMEOUT_S, environment: Mapping[str, str] | None = None
) -> ClusterFacts | Refusal:
    """Return the facts of the head at host:port, or why it does not answer.

    Where no setting says whether tokens are used, the first question carries none: a cluster without tokens answers
    a process that sends one, but does not send it any notices later.

    Args:
        address: of the head.
        timeout_s: for one question, seconds; there are two at most.
        environment: of the probe process; `None` for this process's.
    """
    environment = os.environ if environment is None else environment
    answer, sending = _probe(address, timeout_s, environment), sending_token(environment)
    if isinstance(answer, ClusterFacts) or answer.do != SET_TOKEN or sending == dict(environment):
        return answer
    answer = _probe(address, timeout_s, sending)
    return replace(answer, asks_token=True) if isinstance(answer, ClusterFacts) else answer


def _probe(address: str, timeout_s: float, environment: Mapping[str, str]) -> ClusterFacts | Refusal:
    try:
        done = run_probe("cluster.runners.on_ray.probe_head", address, timeout_s, environment=environment)
    except subprocess.TimeoutExpired as error:
        return _silence(timeout_s, _text(error.stderr))
    if done.returncode == 0:
        return ClusterFacts.from_json(json.loads(done.stdout.splitlines()[-1]))
    return explain(done.stdout, done.stderr, environment)


def explain(out: str, err: str, environment: Mapping[str, str]) -> Refusal:
    """Return the reason for which a probe process has failed.

    Args:
        out: its standard output: the error's text, if Python raised it.
        err: its standard error, which Ray writes to.
        environment: of the process.
    """
    output, mode = out + err, environment.get(MODE, "").lower()
    if "InvalidAuthToken" in output or "AuthenticationError" in output:
        if mode == "token":
            return Refusal("the token of this process is not the cluster's", SET_TOKEN, foreign=True)
        if mode:
            reason = f"it requires a token, and {MODE} is {mode} here, so that none is sent"
            return Refusal(reason, f"unset {MODE} or set it to token", foreign=True)
        return Refusal("it requires a token, and there is none here", SET_TOKEN, foreign=True)
    if mode == "token" and "find an authentication token" in output:
        return Refusal(f"{MODE} is token, but there is no token here", SET_TOKEN, foreign=True)
    return Refusal(last_line(out) or last_line(err) or "the probe process died")


def _silence(timeout_s: float, err: str) -> Refusal:
    if "SSL" in err or "Handshake" in err:
        reason = "this process uses TLS and the cluster does not, or the other way round"
        return Refusal(reason, "set RAY_USE_TLS and its certificates alike on all sides", foreign=True)
    return Refusal(f"it does not answer in {timeout_s:g} s")


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def main() -> None:
    """Run as the probe process."""
    from cluster.runners.on_ray.cluster_inventory import facts

    try:
        answer = facts(sys.argv[1])
    except Exception as error:  # of any kind: its text is the answer
        print(f"{type(error).__name__}: {first_line(str(error))}")
        sys.exit(1)
    print(json.dumps(answer.to_json()))


if __name__ == "__main__":
    main()
