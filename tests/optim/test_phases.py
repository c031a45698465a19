from __future__ import annotations

from typing import Any

import pytest

from mask_lightning.errors import ConfigError
from mask_lightning.optim.phases import Phase, phase_of_epoch
from mask_lightning.optim.schedules import Schedule, constant, flat_cosine, one_cycle

NAMES = ["stem", "block1", "block2", "block3", "heads"]


@pytest.mark.parametrize(
    ("unfreeze", "want", "shown"),
    [
        ("all", ("stem", "block1", "block2", "block3", "heads"), "all"),
        ("heads", ("heads",), "heads"),
        ({"last": 1}, ("block3", "heads"), "last 1"),
        ({"last": 2}, ("block2", "block3", "heads"), "last 2"),
        ({"last": 4}, ("stem", "block1", "block2", "block3", "heads"), "last 4"),
        ("block2", ("block2",), "block2"),
        (["heads", "block1"], ("block1", "heads"), "heads, block1"),
        (["stem", "stem"], ("stem",), "stem, stem"),
    ],
)
def test_a_phase_opens_groups_from_the_image_up(unfreeze: Any, want: tuple[str, ...], shown: str) -> None:
    phase = Phase(epochs=1, unfreeze=unfreeze)
    assert phase.open_groups(NAMES) == want
    assert str(phase) == shown


def test_a_phase_says_at_which_size_it_trains() -> None:
    shown = [str(Phase(1, what, image_size=128)) for what in ("all", {"last": 2}, ["stem", "heads"])]
    assert shown == ["all at 128 px", "last 2 at 128 px", "stem, heads at 128 px"]


@pytest.mark.parametrize(
    ("unfreeze", "message"),
    [
        ("blok3", r"unfreezes 'blok3', no such layer group; did you mean block3"),
        (["heads", "block9"], "unfreezes 'block9', no such layer group"),
        ([], "unfreezes nothing; name a group, heads or all"),
        ({"last": 5}, "the last 5 layer groups, expected 1 to 4 of this backbone; choose fewer, or all"),
        ({"last": 0}, "the last 0 layer groups, expected 1 to 4"),
        ({"last": -1}, "the last -1 layer groups, expected 1 to 4"),
    ],
)
def test_what_cannot_be_opened_is_told(unfreeze: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Phase(epochs=1, unfreeze=unfreeze).open_groups(NAMES)


@pytest.mark.parametrize(
    ("phase", "want"),
    [
        (Phase(1), dict.fromkeys(NAMES, 0.1)),
        (Phase(1, lr_scale=0.5), dict.fromkeys(NAMES, 0.05)),
        # fastai's slice(1e-3, 1e-1): factors of 10 ** 0.5 between five layer groups
        (Phase(1, lr_ratio=100), {n: 10 ** (-3 + i / 2) for i, n in enumerate(NAMES)}),
        (Phase(1, {"last": 1}, lr_ratio=100), {"block3": 10**-1.5, "heads": 0.1}),
        (Phase(1, "heads", lr_scale=2, lr_ratio=100), {"heads": 0.2}),
        (Phase(1, "stem", lr_scale=2, lr_ratio=10), {"stem": 0.02}),
        (Phase(1, layer_decay=0.5, lr_ratio=7), {n: 0.1 * 0.5 ** (4 - i) for i, n in enumerate(NAMES)}),
        (Phase(1, {"last": 1}, lr_scale=2, layer_decay=0.5), {"block3": 0.1, "heads": 0.2}),
    ],
)
def test_lrs_lie_on_a_geometric_line_and_frozen_groups_have_none(phase: Phase, want: dict[str, float]) -> None:
    found = phase.group_lrs(NAMES, lr=0.1)
    assert found == pytest.approx(want)
    assert list(found) == list(want)


@pytest.mark.parametrize(
    ("own", "want"),
    [
        ({}, one_cycle(div=9.0, pct_start=0.4)),
        ({"pct_start": 0.2}, one_cycle(div=9.0, pct_start=0.2)),
        ({"name": "one_cycle", "div": 3.0}, one_cycle(div=3.0, pct_start=0.4)),
        ({"name": "constant"}, constant()),  # takes none of the run's options, which are another schedule's
        ({"name": "flat_cosine", "pct_start": 0.5}, flat_cosine(pct_start=0.5)),
    ],
)
def test_a_phase_may_have_a_schedule_of_its_own(own: dict[str, Any], want: Schedule) -> None:
    usual = {"name": "one_cycle", "div": 9.0, "pct_start": 0.4}
    assert Phase(1, schedule=own).make_schedule(usual) == want
    assert usual == {"name": "one_cycle", "div": 9.0, "pct_start": 0.4}


@pytest.mark.parametrize(
    ("epochs", "want"),
    [([3], [0, 0, 0, 0]), ([1, 2], [0, 1, 1, 1]), ([2, 1, 1], [0, 0, 1, 2, 2, 2])],
)
def test_an_epoch_belongs_to_one_phase_and_the_last_goes_on(epochs: list[int], want: list[int]) -> None:
    phases = [Phase(epochs=count) for count in epochs]
    assert [phase_of_epoch(phases, epoch) for epoch in range(len(want))] == want
