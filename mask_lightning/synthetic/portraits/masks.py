"""Masks on faces: straps, cloth and the shadows of both."""

import numpy as np

from mask_lightning.synthetic.portraits.canvas import Canvas, Points, ellipse, mirrored, shifted, smooth, symmetric
from mask_lightning.synthetic.portraits.colours import BLACK, WHITE, mix, shade
from mask_lightning.synthetic.portraits.fabrics import draw_fabric
from mask_lightning.synthetic.portraits.fits import Fit, Kind, Mask, fit
from mask_lightning.synthetic.portraits.people import Person

# Half widths of each kind, in u, at its upper corner, its middle and its lower corner.
_SIDES: dict[Kind, tuple[float, float, float]] = {
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


def draw_mask(canvas: Canvas, mask: Mask, person: Person) -> None:
    """Draw straps, cloth, folds and pattern of a mask."""
    seat = fit(mask, person)
    outline = seat.place(_outline(mask.kind))
    _straps(canvas, mask, seat, person)
    canvas.fill(shifted(outline, 0.0, 0.03), shade(person.features.skin, 0.4), opacity=0.45, soft=0.035)
    canvas.fill(outline, mask.colour)
    with canvas.within(outline):
        _modelling(canvas, mask, seat)
        draw_fabric(canvas, mask, seat)
    canvas.stroke(np.concatenate([outline, outline[:1]]), shade(mask.colour, 0.72), width=0.015, opacity=0.8)


def _outline(kind: Kind) -> Points:
    top, middle, bottom = _SIDES[kind]
    dip = 0.10 if kind in ("kn95", "sport") else 0.03
    rim = [(0.0, 0.0), (0.18, -0.01), (0.55, dip), (top, 0.10)]
    return symmetric([*rim, (middle + 0.14, 0.5), (bottom, 0.86), (0.5, 1.0), (0.0, 1.02)])


def _straps(canvas: Canvas, mask: Mask, seat: Fit, person: Person) -> None:
    colour = mask.colour if mask.kind == "sport" else mix(mask.colour, WHITE, 0.6)
    ear = person.features.width + 0.04
    corners = seat.place([(-0.96, 0.12), (-0.92, 0.86), (0.96, 0.12), (0.92, 0.86)])
    for side, upper, lower in ((-1.0, *corners[:2]), (1.0, *corners[2:])):
        if mask.wrong == "ear" and side * seat.x < 0:
            # The loop that should hold on to the other ear dangles.
            loop = smooth([upper, (upper + lower) / 2 + (side * 0.3, 0.12), lower])
            canvas.stroke(loop, colour, width=0.028)
            continue
        hold = np.array([(side * ear, -0.12), (side * (ear + 0.02), 0.2)])
        for end, anchor in ((upper, hold[0]), (lower, hold[1])):
            sag = (end + anchor) / 2 + (0.0, 0.03)
            path = smooth([end, sag, anchor])
            canvas.stroke(shifted(path, 0.0, 0.02), BLACK, width=0.03, opacity=0.22, soft=0.012)
            canvas.stroke(path, colour, width=0.05 if mask.kind == "sport" else 0.028)


def _modelling(canvas: Canvas, mask: Mask, seat: Fit) -> None:
    # Cloth over a nose: lit in the middle, dark towards the jaw and on both sides of the nose.
    deep, lit = shade(mask.colour, 0.6), mix(mask.colour, WHITE, 0.5)
    for side in (-1.0, 1.0):
        canvas.fill(seat.place(mirrored(_EDGE, side)), deep, opacity=0.38, soft=0.10)
        canvas.fill(seat.place(mirrored(_FLANK, side)), deep, opacity=0.25, soft=0.05)
        for path in _PULLS:
            pull = smooth(seat.place(mirrored(path, side)))
            canvas.stroke(pull, deep, width=0.02, opacity=0.33, soft=0.012)
    canvas.fill(seat.place(ellipse(0.0, 0.36, 0.14, 0.16)), lit, opacity=0.4, soft=0.06)
    canvas.fill(seat.place(_CHIN), deep, opacity=0.35, soft=0.06)
