"""Species and shares of offspring (Stanley & Miikkulainen 2002, section 3.3; spec §15)."""

from controller.genomes.genome import Genome, start_genome
from controller.searchers.neat.options import NeatOptions
from controller.searchers.neat.species import Members, Species, divide, shares

OPTIONS = NeatOptions(threshold=1.0, difference_weight=1.0)


def at(weight: float) -> Genome:
    """A genome whose distance from another such is the difference of their weights."""
    return start_genome(1, 1, [weight])


def species(number: int, weight: float, best: float = 1.0, improved: int = 0) -> Species:
    return Species(number=number, representative=at(weight), best=best, improved=improved)


def divided(weights: list[float], fitnesses: list[float], known: tuple[Species, ...] = ()) -> list[Members]:
    return divide(
        dict(enumerate(map(at, weights))), dict(enumerate(fitnesses)), known, generation=7, options=OPTIONS,
        next_number=5,
    )  # fmt: skip


def test_a_genome_joins_the_first_species_that_is_close_or_founds_one() -> None:
    found = divided([0.0, 0.5, 3.0, 0.9, 3.5], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert [(each.number, each.slots) for each in found] == [(5, (3, 1, 0)), (6, (4, 2))]


def test_the_distance_must_be_below_the_threshold() -> None:
    assert len(divided([0.0, 1.0], [1.0, 1.0])) == 2


def test_species_keep_their_numbers_and_the_extinct_go() -> None:
    found = divided([2.1, 0.1], [1.0, 1.0], (species(1, 0.0), species(2, 2.0), species(3, 9.0)))
    assert [(each.number, each.slots) for each in found] == [(1, (1,)), (2, (0,))]


def test_the_fittest_come_first_and_of_equal_ones_the_earlier() -> None:
    assert divided([0.0, 0.1, 0.2, 0.3], [1.0, 3.0, 1.0, 3.0])[0].slots == (1, 3, 0, 2)


def test_a_species_improves_if_its_best_is_better_than_ever() -> None:
    (same,) = divided([0.0], [1.0], (species(1, 0.0, best=1.0, improved=3),))
    assert (same.best, same.improved) == (1.0, 3)
    (better,) = divided([0.0], [1.5], (species(1, 0.0, best=1.0, improved=3),))
    assert (better.best, better.improved) == (1.5, 7)
    (new,) = divided([0.0], [0.5])
    assert (new.best, new.improved) == (0.5, 7)


def test_shares_are_in_proportion_and_sum_to_the_total() -> None:
    assert shares([1.0, 3.0], 8) == [2, 6]
    assert shares([1.0, 1.0, 1.0], 8) == [3, 3, 2]
    assert shares([0.0, 0.0], 5) == [3, 2]
    assert shares([0.0, 2.0], 5) == [0, 5]
