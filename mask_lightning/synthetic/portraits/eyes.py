"""Eyes that look somewhere, with lids, lashes and brows."""

import math

import numpy as np

from mask_lightning.synthetic.portraits.canvas import Canvas, Points, PointsLike, ellipse, mirrored, shifted, smooth
from mask_lightning.synthetic.portraits.colours import BLACK, GREY, WHITE, mix, shade
from mask_lightning.synthetic.portraits.conditions import Expression
from mask_lightning.synthetic.portraits.people import Person

_HEIGHT = -0.10


def draw_eyes(canvas: Canvas, person: Person, expression: Expression) -> None:
    """Draw both eyes with lids and lashes."""
    for side in (-1.0, 1.0):
        _eye(canvas, person, expression, side)


def _eye(canvas: Canvas, person: Person, expression: Expression, side: float) -> None:
    upper, lower = _lids(person, expression)
    lid, rim = smooth(mirrored(upper, side)), smooth(mirrored(lower, side))
    x, skin = side * person.features.eye_spacing, person.features.skin
    _eyeshadow(canvas, person, x)
    almond = np.concatenate([lid, rim])
    canvas.fill(almond, (236, 231, 226))
    with canvas.within(almond):
        _iris(canvas, person, x + 0.07 * expression.gaze_x, _HEIGHT - 0.01 + 0.03 * expression.gaze_y)
        canvas.stroke(shifted(lid, 0.0, 0.015), (60, 44, 44), width=0.04, opacity=0.4, soft=0.02)
    _lashes(canvas, person, lid, x)
    crease = shifted(lid[6:], 0.0, -0.05 - 0.015 * person.marks.sag)
    canvas.stroke(crease, shade(skin, 0.5), width=0.015, opacity=0.6, soft=0.006)
    canvas.stroke(rim, shade(skin, 0.45), width=0.014, opacity=0.5, soft=0.006)


def _lids(person: Person, expression: Expression) -> tuple[PointsLike, PointsLike]:
    # From the inner corner of the right eye to the outer one, and back below.
    x, y, w = person.features.eye_spacing, _HEIGHT, person.features.eye_size
    opening = (0.098 - 0.02 * person.marks.sag) * expression.open_eyes
    tip = -person.features.eye_slant - 0.01
    inner, outer = (x - w, y + 0.02), (x + w, y + tip)
    near, far = (x - 0.5 * w, y - 0.75 * opening), (x + 0.55 * w, y - 0.75 * opening + 0.4 * tip)
    below = [(x + 0.55 * w, y + 0.62 * opening), (x, y + 0.78 * opening), (x - 0.5 * w, y + 0.55 * opening)]
    return [inner, near, (x, y - opening), far, outer], [outer, *below, inner]


def _eyeshadow(canvas: Canvas, person: Person, x: float) -> None:
    features = person.features
    colour = mix(shade(features.skin, 0.62), (120, 50, 70), 0.5 * features.lip_tint)
    opacity = 0.2 + 0.4 * features.lashes * features.lip_tint
    canvas.fill(ellipse(x, _HEIGHT - 0.09, 0.95 * features.eye_size, 0.06), colour, opacity=opacity, soft=0.03)


def _lashes(canvas: Canvas, person: Person, lid: Points, x: float) -> None:
    lashes, ink = person.features.lashes, mix(shade(person.features.skin, 0.28), BLACK, 0.6)
    canvas.stroke(lid, ink, width=0.020 + 0.028 * lashes)
    if lashes > 0.35:
        roots = lid[3::3]
        out = np.stack([0.22 * (roots[:, 0] - x) + math.copysign(0.01, x), np.full(len(roots), -0.035)], 1)
        canvas.strands(np.stack([roots, roots + lashes * out], 1), [ink] * len(roots), width=0.010)


def _iris(canvas: Canvas, person: Person, x: float, y: float) -> None:
    iris = person.features.iris
    canvas.fill(ellipse(x, y, 0.097), shade(iris, 0.6))
    canvas.fill(ellipse(x, y, 0.080), iris)
    canvas.fill(ellipse(x, y, 0.042), (12, 10, 12))
    canvas.fill(ellipse(x - 0.03, y - 0.035, 0.018), WHITE)


def draw_brows(canvas: Canvas, person: Person, expression: Expression) -> None:
    """Draw both eyebrows, hair by hair over a soft ground."""
    features = person.features
    colour = shade(mix(person.hair.colour, GREY, 0.6 * person.hair.grey), 0.75)
    y = -0.36 - 0.05 * expression.raised_brows + 0.02 * person.marks.sag
    thick, arch = 0.030 + 0.070 * features.brow_weight, 0.05 + 0.07 * features.brow_arch
    top = [
        (0.17, y - 0.02 - 0.3 * thick),
        (0.42, y - arch - 0.35 * thick),
        (0.58, y - arch * 0.8 - 0.2 * thick),
        (0.74, y + 0.03),
    ]
    base = [
        (0.74, y + 0.035),
        (0.56, y - arch * 0.7 + 0.5 * thick),
        (0.40, y - arch + 0.65 * thick),
        (0.18, y - 0.02 + 0.7 * thick),
    ]
    rng = np.random.default_rng(person.texture + 1)
    for side in (-1.0, 1.0):
        upper, under = smooth(mirrored(top, side)), smooth(mirrored(base[::-1], side))
        canvas.fill(np.concatenate([upper, under[::-1]]), colour, opacity=0.62, soft=0.012)
        share = rng.uniform(0.1, 1.0, (len(upper), 1))
        roots = under * share + upper * (1 - share)
        tips = np.concatenate([upper[3:], upper[-1:], upper[-1:], upper[-1:]])
        canvas.strands(np.stack([roots, tips], 1), [colour] * len(upper), width=0.010)
