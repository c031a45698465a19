"""Kinds of masks, and how they sit on a face, right or wrong.

A mask is drawn in its own plane (u from -1 at the left edge to 1 at the right, v from 0 at the top to 1 at
the bottom); where it sits on the face is a `Fit`. So every kind can be worn in every way.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from mask_lightning.synthetic.portraits.canvas import Points, PointsLike
from mask_lightning.synthetic.portraits.colours import Colour, shade
from mask_lightning.synthetic.portraits.heads import half_width, head_outline
from mask_lightning.synthetic.portraits.people import Person

Kind: TypeAlias = Literal["surgical", "cloth", "kn95", "sport", "patterned"]
Wrong: TypeAlias = Literal["nostrils", "nose", "mouth", "chin", "ear"]

KINDS: tuple[Kind, ...] = ("surgical", "cloth", "kn95", "sport", "patterned")
WRONGS: tuple[Wrong, ...] = ("nostrils", "nose", "mouth", "chin", "ear")

_COLOURS: dict[Kind, tuple[Colour, ...]] = {
    "surgical": (
        (150, 196, 222), (168, 212, 226), (236, 240, 242), (150, 206, 190), (232, 190, 200), (60, 62, 68),
    ),
    "cloth": ((206, 198, 184), (84, 96, 120), (128, 70, 74), (96, 112, 96), (226, 214, 206), (150, 150, 156)),
    "kn95": ((246, 246, 244), (240, 240, 242), (236, 236, 232), (52, 54, 60), (206, 214, 222)),
    "sport": ((30, 30, 34), (40, 42, 48), (26, 32, 48), (112, 114, 120), (64, 44, 48)),
    "patterned": (
        (232, 224, 214), (60, 92, 140), (170, 60, 66), (84, 128, 104), (216, 166, 90), (52, 50, 60),
    ),
}  # fmt: skip

# By way of wearing: height of the upper edge, how far it may slip, how far it peaks over the nose.
_SEATS: dict[Wrong | None, tuple[float, float, float]] = {
    None: (0.20, 0.07, 0.16),
    "nostrils": (0.42, 0.025, 0.06),
    "nose": (0.53, 0.05, 0.03),
    "mouth": (0.97, 0.04, -0.03),
    "chin": (1.18, 0.05, -0.06),
    "ear": (0.55, 0.10, 0.03),
}
_TRIMS_ON_BRIGHT = ((60, 80, 120), (150, 60, 80), (50, 50, 56))
_TRIMS_ON_DARK = ((236, 232, 224), (222, 190, 120), (200, 120, 120))


@dataclass(frozen=True)
class Mask:
    """A mask and how it is worn.

    Attributes:
        kind: What it is made like.
        colour: Of the cloth.
        trim: Of seams and pattern.
        pattern: "dots", "stripes", "checks" or "flowers"; read for patterned masks only.
        wrong: How it is worn wrong; None where it covers nose and mouth.
        slip: -1 to 1, how high or low it sits within what its way of being worn allows.
        askew: Rotation against the face in radians.
    """

    kind: Kind
    colour: Colour
    trim: Colour
    pattern: str
    wrong: Wrong | None
    slip: float
    askew: float


@dataclass(frozen=True)
class Fit:
    """Where the plane of a mask lies on a face: middle, half sizes, how much it narrows and bulges."""

    x: float
    top: float
    bottom: float
    upper: float
    lower: float
    peak: float
    askew: float

    def place(self, points: PointsLike) -> Points:
        """Map the mask's (u, v) to face units; (N, 2) to (N, 2)."""
        u, v = np.asarray(points, dtype=np.float64).T
        # Fullest at two fifths of its height, as the cheeks are.
        within = np.clip(v, 0.0, 1.0)
        width = self.upper + (self.lower - self.upper) * within**1.6 + 0.06 * np.sin(np.pi * within)
        x, arch = u * width, 1.0 - u**2
        y = self.top + v * (self.bottom - self.top) - self.peak * arch * (1 - v) + 0.10 * arch * v
        middle = (self.top + self.bottom) / 2
        cos, sin = math.cos(self.askew), math.sin(self.askew)
        return np.stack([self.x + cos * x - sin * (y - middle), middle + sin * x + cos * (y - middle)], 1)


def sample_mask(kind: Kind, wrong: Wrong | None, rng: np.random.Generator) -> Mask:
    """Sample colour and seat of a mask of a kind, worn right (``wrong`` None) or wrong."""
    colours = _COLOURS[kind]
    colour = colours[int(rng.integers(len(colours)))]
    trims = _TRIMS_ON_DARK if sum(colour) < 380 else _TRIMS_ON_BRIGHT
    return Mask(
        kind=kind,
        colour=shade(colour, float(rng.uniform(0.92, 1.06))),
        trim=trims[int(rng.integers(3))],
        pattern=("dots", "stripes", "checks", "flowers")[int(rng.integers(4))],
        wrong=wrong,
        slip=float(rng.uniform(-1, 1)),
        askew=float(rng.normal(0.0, 0.025 if wrong is None else 0.06)),
    )


def fit(mask: Mask, person: Person) -> Fit:
    """Lay the plane of a mask on a person's face."""
    middle, room, peak = _SEATS[mask.wrong]
    top = middle + room * mask.slip
    if mask.wrong == "ear":
        side = 1.0 if mask.slip > 0 else -1.0
        return Fit(side * 0.98, top, top + 0.95, 0.36, 0.33, peak, side * 0.25 + mask.askew)
    outline = head_outline(person.features, person.marks.sag)
    upper = half_width(outline, min(top, 1.05)) * 0.97
    lower = 0.44 + 0.10 * person.features.jaw if mask.wrong is None else 0.50
    return Fit(0.0, top, max(1.38, top + 0.52), upper, lower, peak, mask.askew)
