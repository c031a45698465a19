"""How a mask is worn: right, or wrong in one of four ways."""

import math
from typing import Literal

import numpy as np

from mask_lightning.synthetic.masks.landmarks import FaceLandmarks
from mask_lightning.synthetic.masks.outlines import Outline
from mask_lightning.synthetic.masks.straps import UPPER_EAR, ear_point, ear_straps, strap_curve
from mask_lightning.synthetic.masks.surface import FaceSurface, FlatSurface, Pose, Surface

Worn = Literal["right", "nose_out", "chin", "eyes", "one_ear"]
WRONG: tuple[Worn, ...] = ("nose_out", "chin", "eyes", "one_ear")

# The cone is stiff: it is narrower and keeps its height, so it slides farther than soft masks do.
POSES: dict[Worn, Pose] = {
    "right": Pose(),
    "nose_out": Pose(down=0.42, tall=0.69, lift=0.2),
    "chin": Pose(down=0.69, tall=0.46, wide=0.86, lift=0.3),
    "eyes": Pose(down=-0.33, tall=0.74),
}
CONE_POSES: dict[Worn, Pose] = {
    "right": Pose(),
    "nose_out": Pose(down=0.41, tall=0.7, wide=1.2, lift=0.12),
    "chin": Pose(down=0.69, tall=0.6, wide=0.85),
    "eyes": Pose(down=-0.37, tall=0.75, wide=1.2),
}


def put_on(
    kind: str, worn: Worn, outline: Outline, face: FaceLandmarks, rng: np.random.Generator
) -> tuple[Surface, list[np.ndarray]]:
    """The surface on which the mask lies, and the curves of its straps."""
    if worn == "one_ear":
        return _hang(outline, face, rng)
    pose = (CONE_POSES if kind == "cone" else POSES)[worn]
    slack = 0.02 if worn == "right" else 0.012
    pose = Pose(
        down=pose.down + rng.uniform(-slack, slack),
        tall=pose.tall * rng.uniform(0.97, 1.03),
        wide=pose.wide * rng.uniform(0.96, 1.02),
        lift=pose.lift,
    )
    surface = FaceSurface(face, pose)
    return surface, ear_straps(outline, surface, face)


def _hang(outline: Outline, face: FaceLandmarks, rng: np.random.Generator) -> tuple[Surface, list[np.ndarray]]:
    """The mask dangles below one ear, seen from its narrow side, the free straps hang loose."""
    side = int(rng.choice([-1, 1]))
    unit = face.eye_distance
    turn = math.radians(rng.uniform(65, 100))
    across = unit * rng.uniform(0.5, 0.62) * np.array([side * math.cos(turn), math.sin(turn)])
    along = unit * rng.uniform(0.5, 0.7) * np.array([-side * math.sin(turn), math.cos(turn)])
    held, loose = outline.corners[0] * (-1, 1), outline.corners[1]
    ear = ear_point(face, side, UPPER_EAR)
    # The corner nearest to the ear hangs a strap's length below it.
    origin = ear + unit * np.array([0.1 * side, rng.uniform(0.25, 0.38)]) - held[0] * across - held[1] * along
    surface = FlatSurface(origin, across, along)
    lower = outline.corners[1] * (-1, 1)
    straps = [strap_curve(surface.to_pixels(corner), ear, 0.0) for corner in (held, lower)]
    ends = [surface.to_pixels(corner) for corner in (outline.corners[0], loose)]
    loop = (ends[0] + ends[1]) / 2 + unit * np.array([0.0, 0.22])
    return surface, [*straps, *(strap_curve(end, loop, 0.35) for end in ends)]
