"""Follow faces through the frames of a video by the overlap of their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from mask_lightning.faces.detector import Box

MIN_OVERLAP = 0.3  # intersection over union from which two boxes are the same face
MAX_GAP = 1.0  # seconds that a face may be hidden

Overlaps = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """A face that was seen in one or more frames.

    Attributes:
        number: 1, 2, ... in the order of first appearance.
        box: left, top, right, bottom where the face was last seen.
        time: seconds at which it was last seen.
    """

    number: int
    box: Box
    time: float


def overlaps(first: Sequence[Box], second: Sequence[Box]) -> Overlaps:
    """Compute the intersection over union (N, M) of N and M boxes; 0 for boxes without an area.

    Example:
        >>> overlaps([(0, 0, 2, 2)], [(0, 0, 2, 2), (1, 0, 3, 2), (5, 5, 6, 6)]).round(3)
        array([[1.   , 0.333, 0.   ]])
    """
    one = np.array(first, np.float64).reshape(-1, 1, 4)
    other = np.array(second, np.float64).reshape(1, -1, 4)
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    areas = [np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(axis=-1) for boxes in (one, other)]
    union = areas[0] + areas[1] - shared
    found: Overlaps = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def match_boxes(first: Sequence[Box], second: Sequence[Box], *, min_overlap: float = MIN_OVERLAP) -> dict[int, int]:
    """Match boxes one to one, so that the sum of the overlaps is largest.

    Returns:
        Index in `second` -> index in `first`; boxes without a partner of at least `min_overlap` are left out.

    Example:
        >>> match_boxes([(0, 0, 9, 9), (20, 0, 29, 9)], [(21, 0, 30, 9), (50, 0, 59, 9)])
        {0: 1}
    """
    found = overlaps(first, second)
    scores = np.where(found >= min_overlap, found, 0.0)
    pairs = zip(*linear_sum_assignment(scores, maximize=True), strict=True)
    return {int(column): int(row) for row, column in pairs if scores[row, column] > 0}


def follow(
    tracks: Sequence[Track], boxes: Sequence[Box], time: float, *, started: int, max_gap: float = MAX_GAP
) -> tuple[list[Track], list[int]]:
    """Assign the boxes of the next frame to tracks; a box that continues none starts a new one.

    Args:
        tracks: tracks of the frames before.
        boxes: of the faces in this frame.
        time: of this frame in seconds.
        started: number of tracks that were started so far.
        max_gap: tracks that were not seen for longer, in seconds, have ended.

    Returns:
        The tracks that have not ended, and the number of the track of each box.
    """
    alive = [track for track in tracks if time - track.time <= max_gap]
    matched = match_boxes([track.box for track in alive], boxes)
    numbers: list[int] = []
    for i in range(len(boxes)):
        if i not in matched:
            started += 1
        numbers.append(alive[matched[i]].number if i in matched else started)
    seen = [Track(number, box, time) for number, box in zip(numbers, boxes, strict=True)]
    return [track for track in alive if track.number not in set(numbers)] + seen, numbers


class Tracker:
    """Number the faces of a video, so that the same face has the same number in all frames.

    Only the position counts: somebody who leaves and comes back, or moves by more than the own size between two frames,
    gets a new number.

    Args:
        max_gap: see `follow`.

    Example:
        >>> tracker = Tracker()
        >>> tracker.update([(0, 0, 9, 9)], time=0.0), tracker.update([(40, 0, 49, 9), (1, 0, 10, 9)], time=0.1)
        ([1], [2, 1])
    """

    def __init__(self, *, max_gap: float = MAX_GAP) -> None:
        self.max_gap, self.started = max_gap, 0
        self._tracks: list[Track] = []

    def update(self, boxes: Sequence[Box], time: float) -> list[int]:
        """Return the number of each face of the next frame."""
        self._tracks, numbers = follow(self._tracks, boxes, time, started=self.started, max_gap=self.max_gap)
        self.started = max([self.started, *numbers])
        return numbers
