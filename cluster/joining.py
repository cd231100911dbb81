"""Joining a Ray cluster that is there: the one that `RAY_ADDRESS` names, or that runs on this machine."""

import logging
import os
from collections.abc import Callable

import ray

from cluster.doctor.knock import ClusterError, Refusal, check_address, knock
from cluster.shipping import shipped
from cluster.survey import running_here


def join(say: Callable[[str], object]) -> bool:
    """Connect to a cluster that is there, and say whether there was one.

    Raises:
        ClusterError: one is named, and it cannot be joined.
    """
    named = os.environ.get("RAY_ADDRESS")
    if named == "local":
        return False
    where = check_address(named) if named and named != "auto" else running_here()
    if where is None:
        if named:
            raise ClusterError("RAY_ADDRESS is 'auto', but no Ray runs on this machine")
        return False
    answer = knock(where)
    if isinstance(answer, Refusal) and not named:
        say(f"The Ray that runs on this machine is left alone: {answer}")
        return False
    if isinstance(answer, Refusal):
        raise ClusterError(f"RAY_ADDRESS is {named!r}, but that cluster cannot be joined: {answer}")
    say(f"Joining the Ray cluster at {where} ...")
    try:
        with shipped(os.environ) as runtime_env:
            ray.init(address=where, runtime_env=runtime_env, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(f"the Ray cluster at {where} cannot be joined: {reason}") from None
    return True
