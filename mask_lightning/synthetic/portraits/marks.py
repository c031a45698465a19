"""What the years leave on a face: furrows, bags below the eyes and spots."""

import numpy as np

from mask_lightning.synthetic.portraits.canvas import Canvas, Points, ellipse, mirrored, shifted, smooth
from mask_lightning.synthetic.portraits.colours import WHITE, mix, shade
from mask_lightning.synthetic.portraits.people import Person

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


def draw_marks(canvas: Canvas, person: Person) -> None:
    """Draw every mark of age as strongly as the person bears it."""
    _spots(canvas, person)
    _forehead(canvas, person)
    _bags(canvas, person)
    marks = person.marks
    furrows = [
        (_FROWN, marks.forehead),
        (_BAG, marks.bags),
        # Nobody's cheeks are without any fold.
        (_FOLD, 0.15 + 0.85 * marks.folds),
        (_MOUTH_CORNER, marks.sag),
        (_JOWL, 0.6 * marks.sag),
        *((foot, marks.crows_feet) for foot in _CROWS_FEET),
    ]
    for path, depth in furrows:
        for side in (-1.0, 1.0):
            _furrow(canvas, person, mirrored(path, side), depth=depth)


def _spots(canvas: Canvas, person: Person) -> None:
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


def _forehead(canvas: Canvas, person: Person) -> None:
    for reach, y in ((0.48, -0.62), (0.43, -0.75), (0.38, -0.88)):
        path = [(-reach, y + 0.03), (-0.2, y - 0.02), (0.0, y + 0.015), (0.2, y - 0.02), (reach, y + 0.03)]
        _furrow(canvas, person, np.array(path), depth=person.marks.forehead)


def _bags(canvas: Canvas, person: Person) -> None:
    colour = mix(shade(person.features.skin, 0.7), (110, 70, 110), 0.25)
    for x in (-0.42, 0.42):
        canvas.fill(ellipse(x, 0.055, 0.17, 0.045), colour, opacity=0.45 * person.marks.bags, soft=0.035)


def _furrow(canvas: Canvas, person: Person, path: Points, *, depth: float) -> None:
    # A dark line with a lit edge below it.
    skin, curve = person.features.skin, smooth(path)
    dark = mix(shade(skin, 0.5), (110, 40, 30), 0.2)
    edge = shifted(curve, 0.0, 0.022)
    canvas.stroke(edge, mix(skin, WHITE, 0.4), width=0.02, opacity=0.35 * depth, soft=0.012)
    canvas.stroke(curve, dark, width=0.022, opacity=0.75 * depth, soft=0.009)
