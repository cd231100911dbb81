"""The processes of a run's shards on Ray: of the searcher's parameters, and of the weights that children share."""

from contextlib import closing
from typing import Any

import ray

from cluster.config.run_config import RunConfig
from cluster.placement.plan import Seat
from cluster.runners.build import initial_values, make_layout
from cluster.runners.on_ray.actors import ShardHost
from cluster.runners.on_ray.credentials import RunToken
from cluster.runners.on_ray.handles import LEDGER, Handle, StoreShards, actor, open_store
from cluster.runners.shared_weights import weights_layout
from cluster.storage.run_folder import RunFolder
from controller.searcher import ParameterGroup

STOP_TIMEOUT_S = 60.0
"""Seconds to wait at the end of a run for the last snapshots."""


def policy_shards(config: RunConfig, folder: RunFolder, groups: tuple[ParameterGroup, ...]) -> StoreShards | None:
    """Return the shards of the searcher's parameters, if it has any."""
    if not groups:
        return None
    layout = make_layout(config, folder.identity(config), groups)
    return StoreShards(store="policy", layout=layout, directory=folder.shards)


def weights_shards(config: RunConfig, folder: RunFolder, weights: ParameterGroup | None) -> StoreShards | None:
    """Return the shards of the weights that children share, if they do."""
    if weights is None:
        return None
    return StoreShards(
        store="weights",
        layout=weights_layout(config, folder.identity(config), weights),
        directory=folder.weights,
        snapshot_interval_s=config.weights.snapshot_interval_s,
    )


def start_shards(
    shards: StoreShards | None, seats: tuple[Seat, ...], interface: str | None, token: RunToken
) -> list[Handle]:
    """Start the shards, if there are any, without waiting until they are up."""
    return [
        ShardHost.options(**on_seat(seat)).remote(shards, list(seat.parts), interface, token)
        for seat in (seats if shards else ())
    ]


def give_first_values(
    shards: StoreShards, hosts: list[Handle], groups: tuple[ParameterGroup, ...], token: RunToken
) -> None:
    """Initialize the parameters on the shards, once these are up."""
    ray.get([host.ready.remote() for host in hosts])
    # Closed also after an interrupt, and so before Ray is shut down: a store that goes on would call Ray again.
    with closing(open_store(shards.layout, actor(LEDGER), token, store=shards.store)) as store:
        store.initialize(initial_values(groups))


def stop_shards(hosts: list[Handle]) -> None:
    """Have the shards write what their last periodic snapshots lack, as far as they can in time."""
    if hosts:
        ray.wait([host.stop.remote() for host in hosts], num_returns=len(hosts), timeout=STOP_TIMEOUT_S)


def on_seat(seat: Seat) -> dict[str, Any]:
    """Return Ray's options that place an actor on its seat, at its start and at each restart."""
    first, *others = (dict(selector) for selector in seat.label_preferences)
    return {"label_selector": first, "fallback_strategy": [{"label_selector": other} for other in others]}
