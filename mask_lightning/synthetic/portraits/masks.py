"""Sample masks, fit them to a face (worn right or wrong), and draw them on portraits.

A mask is drawn in its own plane: u from -1 (left edge) to 1 (right edge), v from 0 (top) to 1 (bottom). A `Fit` maps
this plane to the face, so that every kind can be worn in every way.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from mask_lightning.synthetic.canvas import (
    BLACK,
    WHITE,
    Canvas,
    Colour,
    Points,
    PointsLike,
    ellipse,
    mirrored,
    mix,
    shade,
    shifted,
    smooth,
    symmetric,
)
from mask_lightning.synthetic.portraits.heads import half_width, head_outline
from mask_lightning.synthetic.portraits.people import Person

MaskKind: TypeAlias = Literal["surgical", "cloth", "kn95", "sport", "patterned"]
Misplacement: TypeAlias = Literal["nostrils", "nose", "mouth", "chin", "ear"]

MASK_KINDS: tuple[MaskKind, ...] = ("surgical", "cloth", "kn95", "sport", "patterned")
MISPLACEMENTS: tuple[Misplacement, ...] = ("nostrils", "nose", "mouth", "chin", "ear")

_COLOURS: dict[MaskKind, tuple[Colour, ...]] = {
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

# Upper edge, range of its slip, and its rise over the nose, in face units; None: worn right.
_FITS: dict[Misplacement | None, tuple[float, float, float]] = {
    None: (0.20, 0.07, 0.16),
    "nostrils": (0.42, 0.025, 0.06),
    "nose": (0.53, 0.05, 0.03),
    "mouth": (0.97, 0.04, -0.03),
    "chin": (1.18, 0.05, -0.06),
    "ear": (0.55, 0.10, 0.03),
}
_TRIMS_ON_BRIGHT = ((60, 80, 120), (150, 60, 80), (50, 50, 56))
_TRIMS_ON_DARK = ((236, 232, 224), (222, 190, 120), (200, 120, 120))
# Half widths in u at the upper corner, the middle and the lower corner.
_SIDES: dict[MaskKind, tuple[float, float, float]] = {
    "surgical": (1.0, 0.85, 0.98),
    "cloth": (0.96, 0.80, 0.92),
    "kn95": (0.92, 0.70, 0.80),
    "sport": (1.06, 0.86, 0.90),
    "patterned": (0.97, 0.80, 0.92),
}
_EDGE = [(1.1, 0.0), (0.80, 0.3), (0.66, 0.8), (0.4, 1.05), (1.1, 1.1)]
_FLANK = [(0.12, 0.05), (0.36, 0.30), (0.26, 0.42)]
_PULLS = ([(0.92, 0.14), (0.6, 0.30), (0.36, 0.36)], [(0.9, 0.84), (0.6, 0.72), (0.4, 0.72)])
_CHIN = symmetric([(0.0, 0.86), (0.5, 0.92), (0.4, 1.1), (0.0, 1.12)])


@dataclass(frozen=True)
class Mask:
    """A mask and how it is worn.

    Attributes:
        kind: Shape and details.
        colour: Colour of the cloth.
        trim: Colour of seams and pattern.
        pattern: "dots", "stripes", "checks" or "flowers"; used for patterned masks only.
        misplacement: How the mask is worn wrong; None if it covers nose and mouth.
        slip: -1 (highest) to 1 (lowest) position that this way of wearing allows.
        askew: Rotation against the face, in radians.
    """

    kind: MaskKind
    colour: Colour
    trim: Colour
    pattern: str
    misplacement: Misplacement | None
    slip: float
    askew: float


@dataclass(frozen=True)
class Fit:
    """Position and shape of a mask's plane on a face; lengths in face units.

    Attributes:
        x: Middle of the mask.
        top: Upper edge.
        bottom: Lower edge.
        upper: Half width at the top.
        lower: Half width at the bottom.
        peak: Rise of the upper edge over the nose.
        askew: Rotation against the face, in radians.
    """

    x: float
    top: float
    bottom: float
    upper: float
    lower: float
    peak: float
    askew: float

    def place(self, points: PointsLike) -> Points:
        """Map points (N, 2) of the mask's plane, (u, v), to face units (N, 2)."""
        u, v = np.asarray(points, dtype=np.float64).T
        # Widest at two fifths of its height, like the cheeks.
        within = np.clip(v, 0.0, 1.0)
        width = self.upper + (self.lower - self.upper) * within**1.6 + 0.06 * np.sin(np.pi * within)
        x, arch = u * width, 1.0 - u**2
        y = self.top + v * (self.bottom - self.top) - self.peak * arch * (1 - v) + 0.10 * arch * v
        middle = (self.top + self.bottom) / 2
        cos, sin = math.cos(self.askew), math.sin(self.askew)
        return np.stack([self.x + cos * x - sin * (y - middle), middle + sin * x + cos * (y - middle)], 1)


def sample_mask(kind: MaskKind, misplacement: Misplacement | None, rng: np.random.Generator) -> Mask:
    """Sample colour, pattern and position of a mask; it is worn right if ``misplacement`` is None."""
    colours = _COLOURS[kind]
    colour = colours[int(rng.integers(len(colours)))]
    trims = _TRIMS_ON_DARK if sum(colour) < 380 else _TRIMS_ON_BRIGHT
    return Mask(
        kind=kind,
        colour=shade(colour, float(rng.uniform(0.92, 1.06))),
        trim=trims[int(rng.integers(3))],
        pattern=("dots", "stripes", "checks", "flowers")[int(rng.integers(4))],
        misplacement=misplacement,
        slip=float(rng.uniform(-1, 1)),
        askew=float(rng.normal(0.0, 0.025 if misplacement is None else 0.06)),
    )


def fit_mask(mask: Mask, person: Person) -> Fit:
    """Fit the plane of a mask to a person's face."""
    middle, slack, peak = _FITS[mask.misplacement]
    top = middle + slack * mask.slip
    if mask.misplacement == "ear":
        side = 1.0 if mask.slip > 0 else -1.0
        return Fit(side * 0.98, top, top + 0.95, 0.36, 0.33, peak, side * 0.25 + mask.askew)
    outline = head_outline(person.features, person.marks.sag)
    upper = half_width(outline, min(top, 1.05)) * 0.97
    lower = 0.44 + 0.10 * person.features.jaw if mask.misplacement is None else 0.50
    return Fit(0.0, top, max(1.38, top + 0.52), upper, lower, peak, mask.askew)


def draw_mask(canvas: Canvas, mask: Mask, person: Person) -> None:
    """Draw a mask with its straps, shading, details and shadow."""
    fit = fit_mask(mask, person)
    outline = fit.place(_outline(mask.kind))
    _draw_straps(canvas, mask, fit, person)
    canvas.fill(shifted(outline, 0.0, 0.03), shade(person.features.skin, 0.4), opacity=0.45, soft=0.035)
    canvas.fill(outline, mask.colour)
    with canvas.within(outline):
        _draw_shading(canvas, mask, fit)
        _DETAILS[mask.kind](canvas, mask, fit)
    canvas.stroke(np.concatenate([outline, outline[:1]]), shade(mask.colour, 0.72), width=0.015, opacity=0.8)


def _outline(kind: MaskKind) -> Points:
    top, middle, bottom = _SIDES[kind]
    dip = 0.10 if kind in ("kn95", "sport") else 0.03
    rim = [(0.0, 0.0), (0.18, -0.01), (0.55, dip), (top, 0.10)]
    return symmetric([*rim, (middle + 0.14, 0.5), (bottom, 0.86), (0.5, 1.0), (0.0, 1.02)])


def _draw_straps(canvas: Canvas, mask: Mask, fit: Fit, person: Person) -> None:
    colour = mask.colour if mask.kind == "sport" else mix(mask.colour, WHITE, 0.6)
    ear = person.features.width + 0.04
    corners = fit.place([(-0.96, 0.12), (-0.92, 0.86), (0.96, 0.12), (0.92, 0.86)])
    for side, upper, lower in ((-1.0, *corners[:2]), (1.0, *corners[2:])):
        if mask.misplacement == "ear" and side * fit.x < 0:
            # The loop for the other ear hangs free.
            loop = smooth([upper, (upper + lower) / 2 + (side * 0.3, 0.12), lower])
            canvas.stroke(loop, colour, width=0.028)
            continue
        hold = np.array([(side * ear, -0.12), (side * (ear + 0.02), 0.2)])
        for end, anchor in ((upper, hold[0]), (lower, hold[1])):
            sag = (end + anchor) / 2 + (0.0, 0.03)
            path = smooth([end, sag, anchor])
            canvas.stroke(shifted(path, 0.0, 0.02), BLACK, width=0.03, opacity=0.22, soft=0.012)
            canvas.stroke(path, colour, width=0.05 if mask.kind == "sport" else 0.028)


def _draw_shading(canvas: Canvas, mask: Mask, fit: Fit) -> None:
    # The nose lifts the cloth: light in the middle, dark beside the nose and towards the jaw.
    deep, lit = shade(mask.colour, 0.6), mix(mask.colour, WHITE, 0.5)
    for side in (-1.0, 1.0):
        canvas.fill(fit.place(mirrored(_EDGE, side)), deep, opacity=0.38, soft=0.10)
        canvas.fill(fit.place(mirrored(_FLANK, side)), deep, opacity=0.25, soft=0.05)
        for path in _PULLS:
            pull = smooth(fit.place(mirrored(path, side)))
            canvas.stroke(pull, deep, width=0.02, opacity=0.33, soft=0.012)
    canvas.fill(fit.place(ellipse(0.0, 0.36, 0.14, 0.16)), lit, opacity=0.4, soft=0.06)
    canvas.fill(fit.place(_CHIN), deep, opacity=0.35, soft=0.06)


def _stroke(
    canvas: Canvas,
    fit: Fit,
    path: PointsLike,
    colour: Colour,
    *,
    width: float,
    opacity: float = 1.0,
    soft: float = 0.0,
) -> None:
    canvas.stroke(smooth(fit.place(path)), colour, width=width, opacity=opacity, soft=soft)


def _draw_surgical(canvas: Canvas, mask: Mask, fit: Fit) -> None:
    seam = partial(_stroke, canvas, fit)
    dark, lit = shade(mask.colour, 0.55), mix(mask.colour, WHITE, 0.6)
    for v in (0.34, 0.52, 0.70):
        pleat = np.array([(-1.1, v + 0.02), (-0.4, v), (0.0, v), (0.4, v), (1.1, v + 0.02)])
        seam(pleat, dark, width=0.03, opacity=0.55, soft=0.012)
        seam(shifted(pleat, 0.0, 0.03), lit, width=0.02, opacity=0.6, soft=0.008)
    for v in (0.055, 0.95):
        hem = [(-1.0, v + 0.07), (-0.5, v + 0.03), (0.0, v), (0.5, v + 0.03), (1.0, v + 0.07)]
        seam(hem, mix(mask.colour, WHITE, 0.35), width=0.05, opacity=0.7)
    wire = [(-0.3, 0.07), (0.0, 0.045), (0.3, 0.07)]
    seam(wire, shade(mask.colour, 0.7), width=0.025, opacity=0.6, soft=0.008)


def _draw_cloth(canvas: Canvas, mask: Mask, fit: Fit) -> None:
    seam = partial(_stroke, canvas, fit)
    seam([(0.0, 0.0), (0.03, 0.35), (0.0, 1.05)], shade(mask.colour, 0.6), width=0.022, opacity=0.8)
    seam([(0.03, 0.0), (0.06, 0.35), (0.03, 1.05)], mix(mask.colour, WHITE, 0.4), width=0.015, opacity=0.5)
    for v, bow in ((0.06, 0.05), (0.95, -0.05)):
        hem = [(-1.0, v + bow), (0.0, v), (1.0, v + bow)]
        seam(hem, shade(mask.colour, 0.75), width=0.012, opacity=0.8)


def _draw_kn95(canvas: Canvas, mask: Mask, fit: Fit) -> None:
    seam = partial(_stroke, canvas, fit)
    ridge = [(0.0, 0.0), (0.0, 0.5), (0.0, 1.05)]
    seam(ridge, shade(mask.colour, 0.66), width=0.03, opacity=0.8, soft=0.008)
    canvas.fill(fit.place([(0.02, 0.0), (0.25, 0.35), (0.02, 1.0)]), WHITE, opacity=0.3, soft=0.03)
    stitches = (
        [(0.07, 0.03), (0.5, 0.14), (0.86, 0.19)],
        [(0.07, 0.93), (0.4, 0.90), (0.8, 0.78)],
        [(0.80, 0.16), (0.76, 0.5), (0.72, 0.84)],
    )
    for path in stitches:
        for side in (-1.0, 1.0):
            seam(mirrored(path, side), shade(mask.colour, 0.7), width=0.014, opacity=0.9)
    seam([(-0.28, 0.09), (0.0, 0.06), (0.28, 0.09)], (150, 152, 156), width=0.035, opacity=0.8)


def _draw_sport(canvas: Canvas, mask: Mask, fit: Fit) -> None:
    seam = partial(_stroke, canvas, fit)
    middle = [(0.0, 0.0), (0.0, 0.5), (0.0, 1.05)]
    seam(middle, mix(mask.colour, WHITE, 0.22), width=0.02, opacity=0.9)
    for side in (-1.0, 1.0):
        cut = mirrored([(0.25, 0.02), (0.6, 0.4), (0.55, 0.95)], side)
        seam(cut, mix(mask.colour, WHITE, 0.16), width=0.014)
        canvas.fill(fit.place(ellipse(side * 0.35, 0.45, 0.1, 0.22)), WHITE, opacity=0.10, soft=0.06)


def _draw_patterned(canvas: Canvas, mask: Mask, fit: Fit) -> None:
    seam = partial(_stroke, canvas, fit)
    if mask.pattern in ("stripes", "checks"):
        for v in np.linspace(0.05, 0.95, 7):
            seam([(-1.1, v), (0.0, v), (1.1, v)], mask.trim, width=0.04, opacity=0.75)
    if mask.pattern == "checks":
        for u in np.linspace(-0.95, 0.95, 9):
            seam([(u, -0.1), (u, 0.5), (u, 1.1)], mask.trim, width=0.04, opacity=0.55)
    if mask.pattern in ("dots", "flowers"):
        for row, v in enumerate(np.linspace(0.08, 0.92, 6)):
            for u in np.linspace(-0.9, 0.9, 8) + 0.13 * (row % 2):
                _draw_motif(canvas, mask, fit, float(u), float(v))
    _draw_cloth(canvas, mask, fit)


def _draw_motif(canvas: Canvas, mask: Mask, fit: Fit, u: float, v: float) -> None:
    if mask.pattern == "dots":
        canvas.fill(fit.place(ellipse(u, v, 0.045, 0.032)), mask.trim)
        return
    for du, dv in ((-0.035, 0.0), (0.035, 0.0), (0.0, -0.026), (0.0, 0.026)):
        canvas.fill(fit.place(ellipse(u + du, v + dv, 0.03, 0.022)), mask.trim)
    canvas.fill(fit.place(ellipse(u, v, 0.02, 0.015)), (236, 200, 90))


# Pleats, seams and patterns, which distinguish the kinds.
_DETAILS = {
    "surgical": _draw_surgical,
    "cloth": _draw_cloth,
    "kn95": _draw_kn95,
    "sport": _draw_sport,
    "patterned": _draw_patterned,
}
