"""Which children's weights a search needs no more. Knows neither Ray nor the clock."""

from collections.abc import Iterable, Sequence

from child_trainer.supernets.jobs import TrainOn
from controller.searcher import Child, ChildRecord, Searcher, View, keeps_weights, kept_children


def unneeded_weights(searcher: Searcher, view: View, admitted: Sequence[Child]) -> frozenset[int]:
    """Return the ended children whose weights may be removed, once these children were admitted.

    Failed ones are among them: an attempt may have saved weights before it failed.

    Needed are the weights that the searcher keeps, and those of the parents of all children that have not ended. A
    searcher that keeps weights is exclusive: since the view no other children were sampled, or these would not have
    been admitted. So the children that are pending in the view and the admitted ones are all that have not ended, and
    a parent that another replica chooses later is one that the searcher still keeps.

    Args:
        searcher: the one that proposed the children.
        view: from which it did.
        admitted: the children, as recorded.
    """
    if not keeps_weights(searcher):
        return frozenset()
    needed = needed_weights(searcher, view) | _parents(child.record for child in admitted)
    return frozenset(child.id for child in view.history() if child.id not in needed)


def needed_weights(searcher: Searcher, view: View) -> frozenset[int]:
    """Return the ended children with whose weights a child may still begin, or begin again."""
    return kept_children(searcher, view) | _parents(view.pending())


def _parents(children: Iterable[ChildRecord]) -> frozenset[int]:
    return frozenset(child.job.parent for child in children if isinstance(child.job, TrainOn))
