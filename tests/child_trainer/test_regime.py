"""The values of a regime: rates by hand, limits, and its forms as flags and as plain data."""

import itertools
import math
import re
from dataclasses import fields

import pytest

from child_trainer.outcome import Budget
from child_trainer.regime import DEFAULT_REGIME, IMAGES_ONLY, Regime
from child_trainer.tasks.catalogue import find_task


def rates(regime: Regime, epochs: int, initial: float = 0.1, per_epoch: int = 2) -> list[float]:
    return [regime.rate(initial, epoch / per_epoch, epochs) for epoch in range(epochs * per_epoch)]


def test_a_constant_rate_is_the_initial_one_to_the_bit() -> None:
    assert set(rates(DEFAULT_REGIME, 7, 0.1)) == {0.1}


def test_cosine_falls_from_the_initial_rate_through_its_half_to_zero() -> None:
    regime = Regime(schedule="cosine")
    assert regime.rate(0.1, 0, 20) == 0.1
    assert regime.rate(0.1, 10, 20) == pytest.approx(0.05)
    assert regime.rate(0.1, 5, 20) == pytest.approx(0.1 * (1 + math.sqrt(0.5)) / 2)
    assert regime.rate(0.1, 20, 20) == regime.rate(0.1, 21, 20) == 0
    steps = rates(regime, 9)
    assert all(one > other for one, other in itertools.pairwise(steps))


def test_steps_decay_at_shares_of_the_training() -> None:
    """HNAS divides by 10 after 40, 60 and 70 of 80 thousand steps."""
    regime = Regime(schedule="steps", decay_at=(0.5, 0.75, 0.875))
    assert rates(regime, 8, per_epoch=1) == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001, 0.0001])


@pytest.mark.parametrize("epochs", [3, 7, 49, 90])
def test_a_step_decays_with_the_first_step_of_its_epoch(epochs: int) -> None:
    for epoch in range(1, epochs):
        regime = Regime(schedule="steps", decay_at=(epoch / epochs,), decay=0.5)
        assert regime.rate(1.0, epoch, epochs) == 0.5
        assert regime.rate(1.0, epoch - 0.001, epochs) == 1.0


def test_exponential_decays_after_every_so_many_epochs() -> None:
    """MetaQNN: by 0.2 every 5 of 20 epochs; spec §7.3."""
    metaqnn = Regime(schedule="exponential", decay=0.2, decay_every=5)
    expected = [0.001 * 0.2 ** (epoch // 5) for epoch in range(20)]
    assert rates(metaqnn, 20, 0.001, per_epoch=1) == pytest.approx(expected)
    amoebanet = Regime(schedule="exponential", decay=0.97, decay_every=2)
    assert [amoebanet.rate(1.0, epoch, 600) for epoch in (0, 1.99, 2, 3.5, 4)] == pytest.approx(
        [1, 1, 0.97, 0.97, 0.97**2]
    )


def test_a_warm_up_rises_from_zero_within_the_schedule() -> None:
    regime = Regime(warmup_epochs=2)
    assert rates(regime, 3) == pytest.approx([0, 0.025, 0.05, 0.075, 0.1, 0.1])
    cosine = Regime(schedule="cosine", warmup_epochs=2)
    assert cosine.rate(0.1, 1, 4) == pytest.approx(0.5 * Regime(schedule="cosine").rate(0.1, 1, 4))
    assert cosine.rate(0.1, 2, 4) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"optimizer": "lamb"}, "`optimizer` must be one of sgd, adam, rmsprop, got 'lamb'"),
        ({"schedule": "linear"}, "`schedule` must be one of constant, cosine, steps, exponential, got 'linear'"),
        ({"initial": "zero"}, "`initial` must be one of he, xavier, identity, got 'zero'"),
        ({"precision": "float16"}, "`precision` must be one of float32, bfloat16, got 'float16'"),
        ({"adam_betas": (0.9, 1.0)}, "`adam_betas` must be two numbers from 0 to below 1, got 0.9 1.0"),
        ({"adam_betas": (0.9,)}, "`adam_betas` must be a list of 2 values of which each is a number, got (0.9,)"),
        ({"decay_at": (0.5, 0.5)}, "`decay_at` must be rising shares of the training between 0 and 1, got 0.5 0.5"),
        ({"decay_at": (1.0,)}, "`decay_at` must be rising shares of the training between 0 and 1, got 1.0"),
        (
            {"schedule": "steps"},
            "the schedule steps needs `decay_at`, shares of the training such as 0.5 0.75, got none",
        ),
        *(
            ({name: value}, f"`{name}` must be at least 0 and below 1, got {value}")
            for name in ("rmsprop_decay", "label_smoothing", "restart_below")
            for value in (-0.1, 1.0, math.nan)
        ),
        *(
            ({name: value}, f"`{name}` must be above 0 and at most 1, got {value}")
            for name in ("decay", "path_keep", "norm_momentum", "restart_decay")
            for value in (0.0, 1.5, math.nan)
        ),
        *(
            ({name: value}, f"`{name}` must be a positive number, got {value}")
            for name in ("optimizer_epsilon", "decay_every", "norm_epsilon", "clip_norm")
            for value in (0.0, math.inf, math.nan)
        ),
        *(
            ({name: value}, f"`{name}` must be 0 or more, got {value}")
            for name in ("warmup_epochs", "cutout", "auxiliary_weight", "restarts")
            for value in (-1, math.inf)
            if (name, value) not in (("cutout", math.inf), ("restarts", math.inf))
        ),
        *(({name: math.inf}, f"`{name}` must be a whole number, got inf") for name in ("cutout", "restarts")),
    ],
)  # fmt: skip
def test_impossible_values_are_refused_in_one_sentence(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Regime(**values)  # pyright: ignore[reportArgumentType]


def test_the_learning_rate_must_be_reached_within_the_training() -> None:
    with pytest.raises(
        ValueError, match=r"`warmup_epochs` must be at most `epochs`, 4, got 5\.0: the learning rate would"
    ):
        Budget(epochs=4, regime=Regime(warmup_epochs=5.0))
    Budget(epochs=4, regime=Regime(warmup_epochs=4.0))


def test_the_flags_name_what_differs_from_the_defaults() -> None:
    assert DEFAULT_REGIME.flags() == {}
    regime = Regime(schedule="steps", decay_at=(0.5, 0.75), cutout=4, clip_norm=5.0)
    assert regime.flags() == {"schedule": "steps", "decay-at": "0.5 0.75", "clip-norm": "5.0", "cutout": "4"}
    assert regime.changes()["decay_at"] == (0.5, 0.75)


def test_the_plain_form_has_every_field() -> None:
    plain = Regime(decay_at=(0.25,), schedule="steps").plain()
    assert plain.keys() == {f.name for f in fields(Regime)} >= set(IMAGES_ONLY)
    assert (plain["decay_at"], plain["adam_betas"], plain["clip_norm"]) == ("0.25", "0.9 0.999", None)


@pytest.mark.parametrize(
    ("task", "regime", "sentence"),
    [
        ("text", Regime(cutout=3), "`cutout` is for images only, and this task trains language models: leave it out"),
        ("ptb", Regime(restart_below=0.1), "`restart_below` is for images only, and this task"),
        ("digits", Regime(cutout=8), "`cutout` must be below 8, the side of the task's images, got 8"),
    ],
)
def test_a_task_refuses_what_it_cannot_do(task: str, regime: Regime, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        find_task(task).check_budget(Budget(regime=regime))


def test_tasks_take_what_they_can_do() -> None:
    of_text = Regime(optimizer="adam", schedule="cosine", clip_norm=0.1, label_smoothing=0.1, warmup_epochs=1)
    find_task("text").check_budget(Budget(regime=of_text))
    find_task("digits").check_budget(Budget(regime=Regime(cutout=7, restart_below=0.15)))
    find_task("synthetic").check_budget(Budget(regime=Regime(cutout=100)))  # a rehearsal trains nothing
