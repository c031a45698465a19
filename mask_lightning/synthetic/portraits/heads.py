"""Draw the head without eyes, nose and mouth: outline, neck, ears, skin and age marks."""

import math

import numpy as np

from mask_lightning.synthetic.canvas import (
    WHITE,
    Canvas,
    Points,
    ellipse,
    mirrored,
    mix,
    shade,
    shifted,
    smooth,
    symmetric,
)
from mask_lightning.synthetic.portraits.camera import Light
from mask_lightning.synthetic.portraits.people import Features, Person

# Paths of furrows on the right side, in face units.
_FROWN = [(0.07, -0.50), (0.06, -0.40), (0.08, -0.31)]
_BAG = [(0.22, 0.02), (0.34, 0.10), (0.48, 0.11), (0.62, 0.02)]
_FOLD = [(0.25, 0.36), (0.38, 0.52), (0.47, 0.72), (0.47, 0.84)]
_MOUTH_CORNER = [(0.41, 0.82), (0.43, 0.94), (0.40, 1.06)]
_JOWL = [(0.75, 0.62), (0.66, 0.86), (0.58, 1.02)]
_CROWS_FEET = (
    [(0.67, -0.13), (0.76, -0.17), (0.86, -0.215)],
    [(0.67, -0.10), (0.76, -0.10), (0.86, -0.08)],
    [(0.67, -0.07), (0.76, -0.03), (0.86, 0.055)],
)


def head_outline(features: Features, sag: float = 0.0) -> Points:
    """Outline of skull, cheeks, jaw and chin, in face units.

    Args:
        features: Shape of the face.
        sag: Sagging of the jaw, 0 to 1.

    Returns:
        (N, 2), clockwise in the image, from the top of the head.
    """
    jaw, chin = features.jaw, features.chin
    cheek = 0.02 + 0.05 * features.cheeks
    half = [
        (0.0, -1.42), (0.45, -1.35), (0.80, -1.05), (0.97, -0.60), (1.0, -0.15),
        (0.955 + cheek * 0.5, 0.35), (0.765 + 0.15 * jaw + cheek + 0.03 * sag, 0.80),
        (0.47 + 0.24 * jaw + 0.07 * sag, 1.12 + 0.03 * sag), (0.19 + 0.17 * chin, 1.31), (0.0, 1.36),
    ]  # fmt: skip
    return symmetric(half) * (features.width, 1.0)


def half_width(outline: Points, y: float) -> float:
    """Half the width of a head outline (N, 2) at height ``y``, in face units."""
    right = outline[(outline[:, 0] > 0)]
    return float(np.interp(y, *right[np.argsort(right[:, 1])].T[::-1]))


def draw_neck(canvas: Canvas, person: Person) -> None:
    """Draw neck and chest with the shadow of the head."""
    width, skin = person.features.neck_width, shade(person.features.skin, 0.93)
    half = [(width, 0.3), (width, 1.25), (width + 0.06, 1.7), (width + 0.4, 2.05), (1.25, 2.35), (1.2, 3.4)]
    outline = smooth([*half, *((-x, y) for x, y in reversed(half))])
    canvas.fill(outline, skin)
    with canvas.within(outline):
        canvas.fill(ellipse(0.0, 1.05, 0.95, 0.62), shade(skin, 0.55), opacity=0.55, soft=0.13)
        for side in (-1.0, 1.0):
            tendon = smooth(mirrored([(0.5 * width, 1.5), (0.35 * width, 1.9), (0.1, 2.2)], side))
            opacity = 0.10 + 0.22 * person.marks.sag
            canvas.stroke(tendon, shade(skin, 0.6), width=0.05, opacity=opacity, soft=0.03)
        for y in (1.62, 1.78):
            line = smooth([(-0.4, y - 0.05), (0.0, y + 0.03), (0.4, y - 0.05)])
            canvas.stroke(line, shade(skin, 0.6), width=0.02, opacity=0.5 * person.marks.sag, soft=0.012)


def draw_ears(canvas: Canvas, person: Person) -> None:
    """Draw both ears."""
    skin, x = person.features.skin, person.features.width
    knots = [(x - 0.06, -0.22), (x + 0.07, -0.30), (x + 0.15, -0.16), (x + 0.11, 0.12), (x + 0.04, 0.28),
             (x - 0.05, 0.26)]  # fmt: skip
    fold = [(x + 0.03, -0.20), (x + 0.10, -0.13), (x + 0.06, 0.08), (x + 0.01, 0.14)]
    for side in (-1.0, 1.0):
        canvas.fill(smooth(mirrored(knots, side), closed=True), mix(skin, (190, 80, 70), 0.14))
        canvas.stroke(smooth(mirrored(fold, side)), shade(skin, 0.6), width=0.04, opacity=0.5, soft=0.015)


def draw_head(canvas: Canvas, person: Person, light: Light) -> None:
    """Draw the skin of the head with shading and age marks."""
    outline = head_outline(person.features, person.marks.sag)
    canvas.fill(outline, person.features.skin)
    with canvas.within(outline):
        _draw_shading(canvas, person.features, light)
        _draw_age_marks(canvas, person)


def _draw_shading(canvas: Canvas, features: Features, light: Light) -> None:
    skin, deep = features.skin, shade(features.skin, 0.62)
    flush = mix(skin, (205, 70, 70), 0.45)
    dark_side = -1.0 if light.x > 0 else 1.0
    for side in (-1.0, 1.0):
        more = 1.35 if side == dark_side else 0.7
        canvas.fill(ellipse(side * 0.42, -0.12, 0.30, 0.15), deep, opacity=0.26, soft=0.09)
        hollow = smooth(mirrored([(1.05, 0.1), (0.78, 0.45), (0.62, 0.95), (1.0, 1.1)], side), closed=True)
        depth = 0.34 * more * (1.1 - 0.6 * features.cheeks)
        canvas.fill(hollow, deep, opacity=depth, soft=0.12)
        canvas.fill(ellipse(side * 0.55, 0.33, 0.24, 0.17), flush, opacity=0.20, soft=0.11)
        temple = ellipse(side * 1.0, -0.6, 0.16, 0.45)
        canvas.fill(temple, deep, opacity=0.25 * more, soft=0.12)
    glow = 0.14 + 0.30 * light.strength
    shine = mix(skin, WHITE, 0.55)
    canvas.fill(ellipse(0.30 * light.x, -0.72, 0.36, 0.16), shine, opacity=glow * 0.8, soft=0.14)
    canvas.fill(ellipse(0.52 * math.copysign(1, light.x), 0.22, 0.16, 0.10), shine, opacity=glow, soft=0.09)
    canvas.fill(ellipse(0.0, 1.17, 0.15, 0.09), shine, opacity=glow * 0.6, soft=0.07)
    canvas.fill(ellipse(0.0, 1.01, 0.22, 0.05), deep, opacity=0.35, soft=0.05)


def _draw_age_marks(canvas: Canvas, person: Person) -> None:
    _draw_spots(canvas, person)
    _draw_forehead(canvas, person)
    _draw_bags(canvas, person)
    marks = person.marks
    furrows = [
        (_FROWN, marks.forehead),
        (_BAG, marks.bags),
        # Everybody has a faint nasolabial fold.
        (_FOLD, 0.15 + 0.85 * marks.folds),
        (_MOUTH_CORNER, marks.sag),
        (_JOWL, 0.6 * marks.sag),
        *((foot, marks.crows_feet) for foot in _CROWS_FEET),
    ]
    for path, depth in furrows:
        for side in (-1.0, 1.0):
            _draw_furrow(canvas, person, mirrored(path, side), depth=depth)


def _draw_spots(canvas: Canvas, person: Person) -> None:
    rng = np.random.default_rng(person.texture)
    freckled = 14 if rng.random() < 0.15 else 0
    for _ in range(freckled):
        x, y = rng.normal(0.0, 0.42), rng.normal(0.18, 0.12)
        canvas.fill(ellipse(x, y, 0.012), shade(person.features.skin, 0.72), opacity=0.6)
    for _ in range(round(16 * person.marks.spots)):
        x, y = rng.uniform(-0.85, 0.85), rng.choice([-0.75, 0.35]) + rng.normal(0.0, 0.16)
        radius = rng.uniform(0.015, 0.045)
        colour = mix(person.features.skin, (104, 62, 40), 0.45)
        canvas.fill(ellipse(x, y, radius, radius * 0.8), colour, opacity=0.6, soft=0.012)


def _draw_forehead(canvas: Canvas, person: Person) -> None:
    for reach, y in ((0.48, -0.62), (0.43, -0.75), (0.38, -0.88)):
        path = [(-reach, y + 0.03), (-0.2, y - 0.02), (0.0, y + 0.015), (0.2, y - 0.02), (reach, y + 0.03)]
        _draw_furrow(canvas, person, np.array(path), depth=person.marks.forehead)


def _draw_bags(canvas: Canvas, person: Person) -> None:
    colour = mix(shade(person.features.skin, 0.7), (110, 70, 110), 0.25)
    for x in (-0.42, 0.42):
        canvas.fill(ellipse(x, 0.055, 0.17, 0.045), colour, opacity=0.45 * person.marks.bags, soft=0.035)


def _draw_furrow(canvas: Canvas, person: Person, path: Points, *, depth: float) -> None:
    # A dark line with a light edge below it.
    skin, curve = person.features.skin, smooth(path)
    dark = mix(shade(skin, 0.5), (110, 40, 30), 0.2)
    edge = shifted(curve, 0.0, 0.022)
    canvas.stroke(edge, mix(skin, WHITE, 0.4), width=0.02, opacity=0.35 * depth, soft=0.012)
    canvas.stroke(curve, dark, width=0.022, opacity=0.75 * depth, soft=0.009)
