"""Joining a Ray cluster that is there: the one that `RAY_ADDRESS` names, or that runs on this machine."""

import logging
import os
from collections.abc import Callable

import ray

from cluster.runners.on_ray.cluster_inventory import running_here
from cluster.runners.on_ray.code_shipping import shipped
from cluster.runners.on_ray.credentials import sending_token
from cluster.runners.on_ray.private_api import reload_settings
from cluster.runners.on_ray.probe_head import ANSWER_S, ClusterError, Refusal, check_address, knock, unreachable


def join(say: Callable[[str], object], *, within_s: float = ANSWER_S) -> bool:
    """Connect to a cluster that is there, and say whether there was one.

    Args:
        say: told what is done.
        within_s: seconds in which its head answers.

    Raises:
        ClusterError: one is named and cannot be joined, or one of this machine does not answer as it should.
    """
    where = _found()
    if where is None:
        return False
    named = os.environ.get("RAY_ADDRESS")
    answer = knock(where, within_s)
    if isinstance(answer, Refusal) and named:
        raise ClusterError(f"RAY_ADDRESS is {named!r}, but that cluster cannot be joined: {answer}")
    if isinstance(answer, Refusal) and answer.foreign:
        say(f"The Ray that runs on this machine is left alone: {answer}")
        return False
    if isinstance(answer, Refusal):  # a search on this machine alone is not what is wanted where a cluster is busy
        raise ClusterError(
            f"a Ray runs on this machine at {where}, but it cannot be joined: {answer}; or set RAY_ADDRESS=local for a"
            " Ray of this run's own"
        )
    say(f"Joining the Ray cluster at {where} ...")
    try:
        if answer.asks_token:
            _send_token()
        with shipped(os.environ) as runtime_env:
            ray.init(address=where, runtime_env=runtime_env, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(f"the Ray cluster at {where} cannot be joined: {reason}") from None
    return True


def _found() -> str | None:
    """The address of the head that is to be asked; `None` where a Ray is to be started."""
    named = os.environ.get("RAY_ADDRESS")
    if named == "local":
        return None
    if named and named != "auto":
        return check_address(named)
    here = listening_here()
    if named and here is None:
        raise ClusterError("RAY_ADDRESS is 'auto', but no Ray runs on this machine")
    return here


def listening_here() -> str | None:
    """What `running_here` finds, if anybody listens there: a Ray that was killed leaves its address behind."""
    here = running_here()
    return None if here is None or unreachable(here) else here


def _send_token() -> None:
    """Have this process's Ray send the token that is here; it has read its settings when it was imported."""
    os.environ.update(sending_token(os.environ))
    reload_settings()
