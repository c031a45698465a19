"""Draw clothes, glasses and earrings."""

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
from mask_lightning.synthetic.portraits.people import Person

# Half width and lowest point of the neckline; for a turtleneck its upper edge.
_NECKLINES = {
    "crew": (0.72, 1.95), "vee": (0.66, 2.45), "scoop": (0.95, 2.30), "shirt": (0.60, 2.30),
    "hoodie": (0.80, 2.02), "turtleneck": (0.64, 1.42),
}  # fmt: skip


def draw_clothes(canvas: Canvas, person: Person) -> None:
    """Draw shoulders with their clothes: neckline, folds and scarf."""
    style, wide = person.style, person.features.shoulder_width
    body = _outline(person)
    canvas.fill(body, style.cloth)
    with canvas.within(body):
        for side in (-1.0, 1.0):
            sleeve = smooth(mirrored([(wide - 0.25, 3.6), (wide - 0.4, 2.9), (wide - 0.3, 2.6)], side))
            canvas.stroke(sleeve, shade(style.cloth, 0.6), width=0.05, opacity=0.6, soft=0.03)
            fold = smooth(mirrored([(0.8, 2.3), (1.0, 2.8), (1.0, 3.6)], side))
            canvas.stroke(fold, shade(style.cloth, 0.65), width=0.08, opacity=0.4, soft=0.06)
        _draw_neckline(canvas, person)
    if style.scarf:
        _draw_scarf(canvas, person)


def _outline(person: Person) -> Points:
    opening, _ = _NECKLINES[person.style.clothing]
    wide, rise = person.features.shoulder_width, 1.42 if person.style.clothing == "turtleneck" else 1.78
    shoulder = [(opening, rise), (opening + 0.4, 2.05), (wide - 0.35, 2.30), (wide, 2.65), (wide + 0.12, 3.6)]
    right = np.concatenate([_half_neckline(person), smooth(shoulder)[1:]])
    return np.concatenate([right, mirrored(right)[::-1]])


def _half_neckline(person: Person) -> Points:
    # Right half of the neckline, from its lowest point to the shoulder.
    kind = person.style.clothing
    opening, depth = _NECKLINES[kind]
    if kind == "turtleneck":
        return smooth([(0.0, depth + 0.12), (0.4, depth + 0.08), (opening, depth)])
    if kind in ("vee", "shirt"):
        return np.array([(0.0, depth), (0.34, depth - 0.36), (opening, 1.78)])
    halfway = (0.9 * opening, (depth + 1.78) / 2)
    return smooth([(0.0, depth), (0.5 * opening, depth - 0.06), halfway, (opening, 1.78)])


def _draw_neckline(canvas: Canvas, person: Person) -> None:
    kind, cloth = person.style.clothing, person.style.cloth
    if kind == "shirt":
        _draw_collar(canvas, person)
    elif kind == "turtleneck":
        _draw_ribs(canvas, person)
    else:
        right = _half_neckline(person)
        rim = np.concatenate([mirrored(right)[::-1], right])
        trim = shade(cloth, 0.78) if kind != "scoop" else mix(cloth, WHITE, 0.2)
        canvas.stroke(rim, trim, width=0.10 if kind in ("crew", "hoodie") else 0.03)
    if kind == "hoodie":
        _draw_hood(canvas, person)


def _draw_collar(canvas: Canvas, person: Person) -> None:
    cloth = person.style.cloth
    opening, depth = _NECKLINES["shirt"]
    canvas.stroke(np.array([(0.0, depth), (0.0, 3.6)]), shade(cloth, 0.6), width=0.03)
    for side in (-1.0, 1.0):
        collar = mirrored([(opening, 1.70), (0.0, depth), (0.42, depth + 0.28), (0.86, 1.98)], side)
        canvas.fill(shifted(collar, 0.0, 0.05), shade(cloth, 0.4), opacity=0.4, soft=0.04)
        canvas.fill(collar, mix(cloth, WHITE, 0.25))


def _draw_ribs(canvas: Canvas, person: Person) -> None:
    cloth = person.style.cloth
    for x in np.linspace(-0.55, 0.55, 9):
        canvas.stroke(np.array([(x, 1.4), (x * 1.1, 1.85)]), shade(cloth, 0.75), width=0.03, opacity=0.6)
    fold = smooth([(-0.8, 1.8), (0.0, 1.98), (0.8, 1.8)])
    canvas.stroke(fold, shade(cloth, 0.5), width=0.05, opacity=0.6, soft=0.03)


def _draw_hood(canvas: Canvas, person: Person) -> None:
    cloth = person.style.cloth
    for side in (-1.0, 1.0):
        hood = smooth(mirrored([(0.70, 1.75), (1.15, 1.85), (1.05, 2.2), (0.5, 2.45), (0.2, 2.4)], side))
        canvas.fill(hood, shade(cloth, 0.88))
        canvas.stroke(hood, shade(cloth, 0.6), width=0.03)
        string = np.array([(side * 0.22, 2.2), (side * 0.26, 3.0)])
        canvas.stroke(string, mix(cloth, WHITE, 0.6), width=0.035)


def _draw_scarf(canvas: Canvas, person: Person) -> None:
    # Networks must learn that a scarf below the chin is not a mask.
    colour = shade(person.style.frame, 1.3)
    wrap = symmetric([(0.0, 1.55), (0.85, 1.40), (1.05, 1.85), (0.5, 2.15), (0.0, 2.18)])
    canvas.fill(shifted(wrap, 0.0, 0.06), shade(colour, 0.4), opacity=0.4, soft=0.05)
    canvas.fill(wrap, colour)
    with canvas.within(wrap):
        for y in (1.62, 1.78, 1.95):
            line = smooth([(-1.1, y - 0.1), (0.0, y + 0.1), (1.1, y - 0.15)])
            canvas.stroke(line, shade(colour, 0.6), width=0.04, opacity=0.6, soft=0.02)


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
    # The upper half comes first, because half-rimmed glasses show only that.
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
