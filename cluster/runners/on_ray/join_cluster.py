"""Joins an existing Ray cluster: the one that `RAY_ADDRESS` names, or that runs on this machine."""

import logging
import os
from collections.abc import Callable

import ray

from cluster.runners.on_ray.cluster_inventory import running_here
from cluster.runners.on_ray.code_shipping import shipped
from cluster.runners.on_ray.credentials import sending_token
from cluster.runners.on_ray.private_api import reload_settings
from cluster.runners.on_ray.probe_head import (
    ANSWER_TIMEOUT_S,
    ClusterError,
    Refusal,
    check_address,
    probe_head,
    unreachable,
)


def join(report: Callable[[str], object], *, timeout_s: float = ANSWER_TIMEOUT_S) -> bool:
    """Join an existing cluster, and return whether there is one.

    Args:
        report: called with a sentence on what is done.
        timeout_s: for an answer of its head.

    Raises:
        ClusterError: the named cluster cannot be joined, or the one of this machine does not answer as it should.
    """
    where = _found()
    if where is None:
        return False
    named = os.environ.get("RAY_ADDRESS")
    answer = probe_head(where, timeout_s)
    if isinstance(answer, Refusal) and named:
        raise ClusterError(f"RAY_ADDRESS is {named!r}, but that cluster cannot be joined: {answer}")
    if isinstance(answer, Refusal) and answer.foreign:
        report(f"Not joining the Ray that runs on this machine: {answer}")
        return False
    if isinstance(answer, Refusal):  # if a cluster is busy, the user does not want a search on this machine alone
        raise ClusterError(
            f"a Ray runs on this machine at {where}, but it cannot be joined: {answer}; or set RAY_ADDRESS=local to"
            " start another Ray for this run"
        )
    report(f"Joining the Ray cluster at {where} ...")
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
    """Return the address of the cluster to join; `None` if there is none, and a Ray must be started."""
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
    """Return the address of `running_here` if its port accepts connections: a killed Ray leaves its address behind."""
    here = running_here()
    return None if here is None or unreachable(here) else here


def _send_token() -> None:
    """Have Ray in this process send the token that was found; Ray has read its settings at its import."""
    os.environ.update(sending_token(os.environ))
    reload_settings()
