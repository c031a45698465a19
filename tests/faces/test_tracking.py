"""Tracks against torchvision's overlaps and a search of all assignments; people who move, hide, leave and cross."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from mask_lightning.faces.detector import Box
from mask_lightning.faces.tracking import Tracker, match_boxes, overlaps


def random_boxes(count: int, seed: int) -> list[Box]:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 40, (count, 2))
    return [tuple(box) for box in np.hstack([corners, corners + rng.uniform(10, 40, (count, 2))]).tolist()]


@pytest.mark.parametrize(("first", "second"), [(5, 7), (1, 1), (3, 0), (0, 3), (0, 0)])
def test_overlaps_are_those_of_torchvision(first: int, second: int) -> None:
    one, other = random_boxes(first, 0), random_boxes(second, 1)
    want = box_iou(torch.tensor(one).reshape(-1, 4), torch.tensor(other).reshape(-1, 4))
    np.testing.assert_allclose(overlaps(one, other), want, atol=1e-6)


def test_a_box_without_area_overlaps_nothing() -> None:
    assert overlaps([(3, 3, 3, 3)], [(3, 3, 3, 3), (0, 0, 9, 9)]).tolist() == [[0, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_the_best_assignment_is_found(seed: int) -> None:
    one, other = random_boxes(4, seed), random_boxes(4, seed + 10)
    scores = overlaps(one, other)
    scores[scores < 0.3] = 0
    best = max(sum(scores[row, column] for column, row in enumerate(rows)) for rows in permutations(range(4)))
    found = match_boxes(one, other)
    assert sum(scores[row, column] for column, row in found.items()) == pytest.approx(best)
    assert len(set(found.values())) == len(found)


def at(*lefts: float) -> list[Box]:
    return [(left, 0.0, left + 10, 10.0) for left in lefts]


@pytest.mark.parametrize(
    ("frames", "want"),
    [
        pytest.param([at(0), at(2), at(4)], [[1], [1], [1]], id="moves"),
        pytest.param([at(0, 50), at(50, 0)], [[1, 2], [2, 1]], id="another order"),
        pytest.param([at(0), at(50)], [[1], [2]], id="jumps"),
        pytest.param([at(0), [], at(1)], [[1], [], [1]], id="hidden for a frame"),
        pytest.param([at(0), [], [], [], at(0)], [[1], [], [], [], [2]], id="hidden for long"),
        pytest.param([at(0), at(0, 50), at(50), at(50, 90)], [[1], [1, 2], [2], [2, 3]], id="comes and leaves"),
        pytest.param([at(0, 3), at(1, 4)], [[1, 2], [1, 2]], id="side by side"),
        pytest.param([[], []], [[], []], id="nobody"),
    ],
)
def test_tracks(frames: list[list[Box]], want: list[list[int]]) -> None:
    tracker = Tracker(max_gap=1.5)
    assert [tracker.update(boxes, time=0.5 * i) for i, boxes in enumerate(frames)] == want
