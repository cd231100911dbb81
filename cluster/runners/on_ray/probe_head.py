"""Ask a cluster's head what it knows, from a process of its own.

With a wrong address Ray tries for a minute, with a wrong token for 20 s, and without a token that it was told to use
it ends the process. A process that only asks can be given up, and its end tells what is wrong.

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
from cluster.runners.on_ray.probe_process import ask

ANSWER_S = 15.0
"""Seconds in which a head answers, the start of the asking process included."""

SET_TOKEN = "set RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token to the cluster's token"

CONNECT_S = 10.0
"""Seconds in which a machine that was named takes a connection."""


class ClusterError(ValueError):
    """There is no cluster where one was named."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no answer, and what would be right.

    Attributes:
        reason, do: as in a finding.
        foreign: it asks for other credentials than this process has.
    """

    reason: str
    do: str = "see that it is up: `ray status` on its head"
    foreign: bool = False

    def __str__(self) -> str:
        return f"{self.reason}; {self.do}"


def check_address(address: str) -> str:
    """The address, if it is one and somebody listens there, which Ray itself would take minutes to find out.

    Raises:
        ClusterError: it is not, or nobody does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "://" in host:
        raise ClusterError(
            f"RAY_ADDRESS must be host:port, auto or local (Ray Client's ray:// is not), got {address!r}"
        )
    if problem := unreachable(address):
        raise ClusterError(f"RAY_ADDRESS is {address!r}, but no Ray cluster answers there ({problem})")
    return address


def unreachable(address: str) -> str:
    """Why nobody listens at host:port; empty if somebody does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def knock(
    address: str, within_s: float = ANSWER_S, environment: Mapping[str, str] | None = None
) -> ClusterFacts | Refusal:
    """What the head at host:port knows, or why it does not say so.

    Where nothing says whether tokens are used, it is asked without one first. Who speaks with tokens to a cluster
    that has none is answered, but hears nothing that the cluster says of itself.

    Args:
        address: of the head.
        within_s: the limit for one question, seconds; there are two at most.
        environment: of the asking process; unset: as this one's.
    """
    environment = os.environ if environment is None else environment
    answer, sending = _knock(address, within_s, environment), sending_token(environment)
    if isinstance(answer, ClusterFacts) or answer.do != SET_TOKEN or sending == dict(environment):
        return answer
    answer = _knock(address, within_s, sending)
    return replace(answer, asks_token=True) if isinstance(answer, ClusterFacts) else answer


def _knock(address: str, within_s: float, environment: Mapping[str, str]) -> ClusterFacts | Refusal:
    try:
        done = ask("cluster.runners.on_ray.probe_head", address, within_s, environment=environment)
    except subprocess.TimeoutExpired as error:
        return _silence(within_s, _text(error.stderr))
    if done.returncode == 0:
        return ClusterFacts.from_json(json.loads(done.stdout.splitlines()[-1]))
    return explain(done.stdout, done.stderr, environment)


def explain(out: str, err: str, environment: Mapping[str, str]) -> Refusal:
    """What the end of an asking process means.

    Args:
        out: what it wrote: the error's text, if it was one of Python's.
        err: what Ray wrote to the standard error.
        environment: in which it ran.
    """
    said, mode = out + err, environment.get(MODE, "").lower()
    if "InvalidAuthToken" in said or "AuthenticationError" in said:
        if mode == "token":
            return Refusal("the token of this process is not the cluster's", SET_TOKEN, foreign=True)
        if mode:
            reason = f"it asks for a token, and {MODE} is {mode} here, so that none is sent"
            return Refusal(reason, f"unset {MODE} or set it to token", foreign=True)
        return Refusal("it asks for a token, and there is none here", SET_TOKEN, foreign=True)
    if mode == "token" and "find an authentication token" in said:
        return Refusal(f"{MODE} is token, but there is no token here", SET_TOKEN, foreign=True)
    return Refusal(last_line(out) or last_line(err) or "the asking process died")


def _silence(within_s: float, err: str) -> Refusal:
    if "SSL" in err or "Handshake" in err:
        reason = "this process speaks TLS and the cluster does not, or the other way round"
        return Refusal(reason, "set RAY_USE_TLS and its certificates alike on all sides", foreign=True)
    return Refusal(f"it does not answer in {within_s:g} s")


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def main() -> None:
    """The asking process."""
    from cluster.runners.on_ray.cluster_inventory import facts

    try:
        answer = facts(sys.argv[1])
    except Exception as error:  # whatever it is, its text is the answer
        print(f"{type(error).__name__}: {first_line(str(error))}")
        sys.exit(1)
    print(json.dumps(answer.to_json()))


if __name__ == "__main__":
    main()
