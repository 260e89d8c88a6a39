"""The driver: reserves places for a farm's servers, as Ray's placement groups. On which nodes is Ray's to say.

A farm grows by steps, each of them one placement group: within it Ray spreads, and of several groups each avoids the
nodes of those before where no node may have two servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from remote_gym.errors import MisuseError, RefusedError
from remote_gym.ray.keeper import Plan
from remote_gym.ray.names import group_of, step_of

NODE_LABEL = "ray.io/node-id"
"""By which Ray knows each node, and a bundle can name those that it avoids."""


def groups_of(farm: str) -> dict[int, tuple[PlacementGroup, list[str]]]:
    """Return the placement groups of a farm, by step, each with the nodes of its bundles; an empty one: none yet."""
    found = {}
    for entry in placement_group_table().values():
        step = step_of(farm, entry["name"])
        if step is not None and entry["state"] != "REMOVED":
            nodes = entry.get("bundles_to_node_id") or {}
            # Not by its name, which Ray knows in the namespace of the driver that has made it alone.
            group = PlacementGroup(ray.PlacementGroupID.from_hex(entry["placement_group_id"]))
            found[step] = group, [nodes.get(at, "") for at in range(len(entry["bundles"]))]
    return dict(sorted(found.items()))


def fitting_nodes(bundle: Mapping[str, float]) -> list[str]:
    """Return the nodes that have, used or not, what a bundle asks for."""
    return [node["NodeID"] for node in ray.nodes() if node["Alive"] and _fits(bundle, node["Resources"])]


def _fits(bundle: Mapping[str, float], resources: Mapping[str, float]) -> bool:
    return all(resources.get(name, 0.0) >= amount for name, amount in bundle.items())


def reserve(farm: str, plan: Plan, step: int, count: int, avoided: list[str], timeout_seconds: float) -> None:
    """Reserve `count` more places, for good: Ray finds others for those whose node is lost.

    Args:
        farm: Whose.
        plan: What each of them is to have.
        step: Of the farm's growth.
        count: How many.
        avoided: Nodes that have a server already, and are to have no second one.
        timeout_seconds: How long Ray may take.

    Raises:
        MisuseError: No node of the cluster has what one server asks for.
        RefusedError: Ray has found no room in time; nothing is reserved.
    """
    if not (fitting := fitting_nodes(plan.bundle)):
        raise MisuseError(f"no node of this Ray cluster has {_text(plan.bundle)}: ask for less (num_cpus=, resources=)")
    selector = {NODE_LABEL: f"!in({','.join(avoided)})"} if avoided else None
    group = placement_group(
        [dict(plan.bundle)] * count,
        strategy="STRICT_SPREAD" if plan.per_node else "SPREAD",
        name=group_of(farm, step),
        lifetime="detached" if plan.detached else None,
        bundle_label_selector=[selector] * count if selector else None,
    )
    if not group.wait(timeout_seconds):
        remove_placement_group(group)
        available = ray.available_resources()
        free = {resource: available.get(resource, 0.0) for resource in plan.bundle}
        each = ", each on a node of its own" if plan.per_node else ""
        raise RefusedError(
            f"Ray has found no room for {count} servers with {_text(plan.bundle)}{each} within {timeout_seconds:g} s: "
            f"{len(fitting)} nodes have as much, and of all that is free {_text(free)}",
            "placement",
        )


def _text(bundle: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in bundle.items()) or "nothing"


def release(group: Any) -> None:
    """Give places back; servers that are still there end."""
    remove_placement_group(group)
