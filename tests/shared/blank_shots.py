"""Stand-in for drawing masks in tests that do not look at the pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from mask_lightning.synthetic.masks.landmarks import FaceLandmarks
from mask_lightning.synthetic.masks.shots import DrawnShot, plan_shots, select_shots


def draw_blank_shots(
    photos: Sequence[tuple[Image.Image, FaceLandmarks]], *, person_id: str, seed: int, masks: int = 5
) -> Iterator[DrawnShot]:
    """Yield the shots of `draw_shots` as small black images."""
    for i, shot in enumerate(select_shots(plan_shots(np.random.default_rng(seed)), masks)):
        yield DrawnShot(shot, Image.new("RGB", (8, 8)), quality=90, source=i % len(photos))
