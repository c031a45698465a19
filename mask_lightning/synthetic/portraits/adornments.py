"""Glasses and earrings."""

import numpy as np

from mask_lightning.synthetic.portraits.canvas import Canvas, Points, ellipse, mirrored, shifted, smooth
from mask_lightning.synthetic.portraits.colours import WHITE, shade
from mask_lightning.synthetic.portraits.people import Person


def draw_glasses(canvas: Canvas, person: Person) -> None:
    """Draw glasses with a reflection, if the person wears any."""
    kind, colour = person.style.glasses, person.style.frame
    if kind == "none":
        return
    x, y = person.features.eye_spacing + 0.01, -0.07
    for side in (-1.0, 1.0):
        lens = _lens(kind, x, y, side)
        canvas.fill(lens, (226, 236, 242), opacity=0.10)
        glare = np.array([(-0.16, 0.10), (0.02, -0.18), (0.09, -0.18), (-0.09, 0.13)])
        with canvas.within(lens):
            canvas.fill(shifted(glare, side * x, y), WHITE, opacity=0.22, soft=0.01)
        rim = lens[: len(lens) // 2 + 1] if kind == "half" else np.concatenate([lens, lens[:2]])
        canvas.stroke(rim, colour, width=0.030 if kind == "square" else 0.022)
        arm = mirrored([(x + 0.27, y - 0.09), (person.features.width + 0.01, y - 0.11)], side)
        canvas.stroke(arm, shade(colour, 0.8), width=0.03)
    bridge = smooth([(-x + 0.27, y - 0.05), (0.0, y - 0.10), (x - 0.27, y - 0.05)])
    canvas.stroke(bridge, colour, width=0.026)


def _lens(kind: str, x: float, y: float, side: float) -> Points:
    if kind == "round":
        return ellipse(side * x, y, 0.27, 0.25)
    # The upper half comes first: half-rimmed glasses draw only that.
    knots = [(x - 0.27, y), (x - 0.25, y - 0.16), (x, y - 0.19), (x + 0.25, y - 0.17), (x + 0.28, y),
             (x + 0.22, y + 0.18), (x, y + 0.21), (x - 0.22, y + 0.18)]  # fmt: skip
    return smooth(mirrored(knots, side), closed=True)


def draw_earrings(canvas: Canvas, person: Person) -> None:
    """Draw earrings below both ears, if the person wears any."""
    x = person.features.width + 0.06
    for side in (-1.0, 1.0):
        if person.style.earrings == "stud":
            canvas.fill(ellipse(side * x, 0.27, 0.035), (206, 176, 96))
            canvas.fill(ellipse(side * x - 0.01, 0.26, 0.014), WHITE)
        elif person.style.earrings == "hoop":
            canvas.stroke(ellipse(side * x, 0.39, 0.09, 0.13), (206, 172, 92), width=0.022)
