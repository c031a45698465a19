"""Draw the features of a face (eyes, brows, nose, mouth) with an expression."""

import math
from dataclasses import dataclass

import numpy as np

from mask_lightning.synthetic.canvas import (
    BLACK,
    GREY,
    WHITE,
    Canvas,
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
from mask_lightning.synthetic.portraits.camera import Light
from mask_lightning.synthetic.portraits.people import Features, Person

_EYE_LEVEL = -0.10


@dataclass(frozen=True)
class Expression:
    """Facial expression in one photo.

    Attributes:
        smile: -0.3 is serious, 1 is a broad smile.
        open_mouth: 0 is closed, 1 is wide open.
        open_eyes: Factor of the usual opening.
        gaze_x: Direction of the eyes, -1 (left of the photo) to 1 (right).
        gaze_y: Direction of the eyes, -1 (up) to 1 (down).
        raised_brows: 0 to 1.
    """

    smile: float
    open_mouth: float
    open_eyes: float
    gaze_x: float
    gaze_y: float
    raised_brows: float


def sample_expression(rng: np.random.Generator) -> Expression:
    """Sample an expression, mostly relaxed and looking near the camera."""
    smile = float(np.clip(rng.normal(0.35, 0.4), -0.3, 1.0))
    return Expression(
        smile=smile,
        open_mouth=float(rng.uniform(0.5, 1.0)) if smile > 0.4 and rng.random() < 0.6 else 0.0,
        open_eyes=float(np.clip(rng.normal(1.0, 0.12) - 0.1 * max(smile, 0), 0.6, 1.25)),
        gaze_x=float(np.clip(rng.normal(0, 0.35), -1, 1)),
        gaze_y=float(np.clip(rng.normal(0, 0.3), -1, 1)),
        raised_brows=float(rng.uniform(0, 1) ** 2),
    )


def draw_eyes(canvas: Canvas, person: Person, expression: Expression) -> None:
    """Draw both eyes with lids and lashes."""
    for side in (-1.0, 1.0):
        _draw_eye(canvas, person, expression, side)


def _draw_eye(canvas: Canvas, person: Person, expression: Expression, side: float) -> None:
    upper, lower = _lids(person, expression)
    lid, rim = smooth(mirrored(upper, side)), smooth(mirrored(lower, side))
    x, skin = side * person.features.eye_spacing, person.features.skin
    _draw_eyeshadow(canvas, person, x)
    almond = np.concatenate([lid, rim])
    canvas.fill(almond, (236, 231, 226))
    with canvas.within(almond):
        _draw_iris(canvas, person, x + 0.07 * expression.gaze_x, _EYE_LEVEL - 0.01 + 0.03 * expression.gaze_y)
        canvas.stroke(shifted(lid, 0.0, 0.015), (60, 44, 44), width=0.04, opacity=0.4, soft=0.02)
    _draw_lashes(canvas, person, lid, x)
    crease = shifted(lid[6:], 0.0, -0.05 - 0.015 * person.marks.sag)
    canvas.stroke(crease, shade(skin, 0.5), width=0.015, opacity=0.6, soft=0.006)
    canvas.stroke(rim, shade(skin, 0.45), width=0.014, opacity=0.5, soft=0.006)


def _lids(person: Person, expression: Expression) -> tuple[PointsLike, PointsLike]:
    # Upper lid of the right eye from the inner to the outer corner, and lower lid back.
    x, y, w = person.features.eye_spacing, _EYE_LEVEL, person.features.eye_size
    opening = (0.098 - 0.02 * person.marks.sag) * expression.open_eyes
    tip = -person.features.eye_slant - 0.01
    inner, outer = (x - w, y + 0.02), (x + w, y + tip)
    near, far = (x - 0.5 * w, y - 0.75 * opening), (x + 0.55 * w, y - 0.75 * opening + 0.4 * tip)
    below = [(x + 0.55 * w, y + 0.62 * opening), (x, y + 0.78 * opening), (x - 0.5 * w, y + 0.55 * opening)]
    return [inner, near, (x, y - opening), far, outer], [outer, *below, inner]


def _draw_eyeshadow(canvas: Canvas, person: Person, x: float) -> None:
    features = person.features
    colour = mix(shade(features.skin, 0.62), (120, 50, 70), 0.5 * features.lip_tint)
    opacity = 0.2 + 0.4 * features.lashes * features.lip_tint
    canvas.fill(ellipse(x, _EYE_LEVEL - 0.09, 0.95 * features.eye_size, 0.06), colour, opacity=opacity, soft=0.03)


def _draw_lashes(canvas: Canvas, person: Person, lid: Points, x: float) -> None:
    lashes, ink = person.features.lashes, mix(shade(person.features.skin, 0.28), BLACK, 0.6)
    canvas.stroke(lid, ink, width=0.020 + 0.028 * lashes)
    if lashes > 0.35:
        roots = lid[3::3]
        out = np.stack([0.22 * (roots[:, 0] - x) + math.copysign(0.01, x), np.full(len(roots), -0.035)], 1)
        canvas.strands(np.stack([roots, roots + lashes * out], 1), [ink] * len(roots), width=0.010)


def _draw_iris(canvas: Canvas, person: Person, x: float, y: float) -> None:
    iris = person.features.iris
    canvas.fill(ellipse(x, y, 0.097), shade(iris, 0.6))
    canvas.fill(ellipse(x, y, 0.080), iris)
    canvas.fill(ellipse(x, y, 0.042), (12, 10, 12))
    canvas.fill(ellipse(x - 0.03, y - 0.035, 0.018), WHITE)


def draw_brows(canvas: Canvas, person: Person, expression: Expression) -> None:
    """Draw both eyebrows: single hairs on a soft shape."""
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


def draw_nose(canvas: Canvas, person: Person, light: Light) -> None:
    """Draw the nose: bridge, tip, wings and nostrils."""
    skin, y = person.features.skin, person.features.nose_length
    shine = mix(skin, WHITE, 0.6)
    lit = math.copysign(0.03, light.x)
    for side in (-1.0, 1.0):
        shadow = 0.25 + 0.2 * light.strength if side * lit < 0 else 0.14
        _draw_nose_side(canvas, person.features, side, shadow=shadow)
    bridge = np.array([(lit, -0.15), (lit, y - 0.12)])
    canvas.stroke(bridge, shine, width=0.05, opacity=0.25, soft=0.03)
    tip = ellipse(1.3 * lit, y - 0.09, 0.06, 0.05)
    canvas.fill(tip, shine, opacity=0.35 + 0.3 * light.strength, soft=0.03)


def _draw_nose_side(canvas: Canvas, features: Features, side: float, *, shadow: float) -> None:
    w, y = features.nose_width, features.nose_length
    deep = mix(shade(features.skin, 0.55), (120, 50, 40), 0.15)
    slope = [(0.10, -0.25), (0.11, 0.0), (0.16, y - 0.14), (w, y - 0.02), (0.14, y), (0.05, y - 0.2)]
    canvas.fill(smooth(mirrored(slope, side), closed=True), deep, opacity=shadow, soft=0.04)
    canvas.fill(ellipse(side * 0.08, y + 0.06, w * 0.6, 0.05), deep, opacity=0.2, soft=0.04)
    wing = [(w - 0.03, y - 0.13), (w + 0.01, y - 0.05), (w - 0.03, y + 0.015), (w - 0.08, y + 0.01)]
    canvas.stroke(smooth(mirrored(wing, side)), deep, width=0.022, opacity=0.75, soft=0.008)
    nostril = ellipse(side * w * 0.48, y + 0.012, 0.055, 0.024)
    canvas.fill(nostril, shade(features.skin, 0.25), opacity=0.85, soft=0.008)


def draw_mouth(canvas: Canvas, person: Person, expression: Expression) -> None:
    """Draw the lips, and the teeth if the mouth is open."""
    features = person.features
    w, y = features.mouth_width * (1.0 + 0.16 * expression.smile), 0.76
    lift, gap = 0.07 * expression.smile, 0.11 * expression.open_mouth
    full = 0.04 + 0.07 * features.lip_fullness
    lips = mix(mix(features.skin, (150, 60, 60), 0.42), (176, 32, 58), 0.65 * features.lip_tint)
    corner = (w, y - lift)
    middle = [corner, (0.5 * w, y + 0.012), (0.0, y + 0.005)]
    bow = [(0.0, y - 0.75 * full), (0.07, y - full), (0.5 * w, y - 0.75 * full - 0.3 * lift), corner]
    below = [(0.0, y + 1.35 * full + gap), (0.6 * w, y + 0.75 * full + gap), corner]
    canvas.fill(symmetric([*bow, *middle[1:]]), shade(lips, 0.88), opacity=0.95, soft=0.008)
    canvas.fill(symmetric([*below, *middle[1:]]), lips, opacity=0.95, soft=0.008)
    if gap > 0.02:
        _draw_teeth(canvas, w, y, lift=lift, gap=gap)
    parting = smooth([*middle, *((-x, y) for x, y in reversed(middle[:-1]))])
    canvas.stroke(parting, shade(lips, 0.42), width=0.018, opacity=0.85, soft=0.005)
    gloss = ellipse(-0.05, y + 0.75 * full + gap, 0.12, 0.02)
    canvas.fill(gloss, WHITE, opacity=0.22 + 0.2 * features.lip_tint, soft=0.02)
    shadow = ellipse(0.0, y + 1.35 * full + gap + 0.05, 0.2, 0.03)
    canvas.fill(shadow, shade(features.skin, 0.6), opacity=0.3, soft=0.03)


def _draw_teeth(canvas: Canvas, w: float, y: float, *, lift: float, gap: float) -> None:
    opening = symmetric(
        [(0.0, y), (0.5 * w, y + 0.01), (0.85 * w, y - 0.7 * lift), (0.4 * w, y + gap), (0.0, y + 1.1 * gap)]
    )
    canvas.fill(opening, (92, 30, 34))
    with canvas.within(opening):
        canvas.fill(ellipse(0.0, y, 0.8 * w, 0.75 * gap), (240, 236, 228))
