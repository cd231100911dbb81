"""Which children are trained as one network (`--fuse-seeds`): a pure function. Standard library only."""

from collections.abc import Iterable

from cluster.search.evaluator import Assignment


def seed_groups(children: Iterable[Assignment], most: int) -> list[list[Assignment]]:
    """Divide children into groups of one architecture and different seeds; most groups are of one child.

    Groups are formed in the order of the children's ids, whatever that of their arrival: children that were given back
    together form the same group again, and so can go on from its checkpoint, unless another seed of their architecture
    has come meanwhile and there is room for it in the group: then they begin anew.

    Args:
        children: those that wait and may be trained as one with others.
        most: seeds in a group, at most.

    Returns:
        The groups in the order of their first children.
    """
    groups: list[list[Assignment]] = []
    open_groups: dict[str, list[list[Assignment]]] = {}
    for child in sorted(children, key=lambda child: child.child_id):
        network = child.architecture.digest if child.architecture is not None and child.job is None else None
        joinable = open_groups.setdefault(network, []) if network else []
        group = next((group for group in joinable if all(child.seed != one.seed for one in group)), None)
        if group is None:
            group = []
            groups.append(group)
            joinable.append(group)
        group.append(child)
        if len(group) >= most:
            joinable.remove(group)
    return groups
