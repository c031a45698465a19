"""The middle of a face: nose and mouth."""

import math

import numpy as np

from mask_lightning.synthetic.portraits.canvas import Canvas, ellipse, mirrored, smooth, symmetric
from mask_lightning.synthetic.portraits.colours import WHITE, mix, shade
from mask_lightning.synthetic.portraits.conditions import Expression, Light
from mask_lightning.synthetic.portraits.people import Features, Person


def draw_nose(canvas: Canvas, person: Person, light: Light) -> None:
    """Draw the nose: bridge, tip, wings and nostrils."""
    skin, y = person.features.skin, person.features.nose_length
    shine = mix(skin, WHITE, 0.6)
    lit = math.copysign(0.03, light.x)
    for side in (-1.0, 1.0):
        shadow = 0.25 + 0.2 * light.strength if side * lit < 0 else 0.14
        _flank(canvas, person.features, side, shadow=shadow)
    bridge = np.array([(lit, -0.15), (lit, y - 0.12)])
    canvas.stroke(bridge, shine, width=0.05, opacity=0.25, soft=0.03)
    tip = ellipse(1.3 * lit, y - 0.09, 0.06, 0.05)
    canvas.fill(tip, shine, opacity=0.35 + 0.3 * light.strength, soft=0.03)


def _flank(canvas: Canvas, features: Features, side: float, *, shadow: float) -> None:
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
    """Draw lips, and teeth where the mouth is open."""
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
        _teeth(canvas, w, y, lift=lift, gap=gap)
    parting = smooth([*middle, *((-x, y) for x, y in reversed(middle[:-1]))])
    canvas.stroke(parting, shade(lips, 0.42), width=0.018, opacity=0.85, soft=0.005)
    gloss = ellipse(-0.05, y + 0.75 * full + gap, 0.12, 0.02)
    canvas.fill(gloss, WHITE, opacity=0.22 + 0.2 * features.lip_tint, soft=0.02)
    shadow = ellipse(0.0, y + 1.35 * full + gap + 0.05, 0.2, 0.03)
    canvas.fill(shadow, shade(features.skin, 0.6), opacity=0.3, soft=0.03)


def _teeth(canvas: Canvas, w: float, y: float, *, lift: float, gap: float) -> None:
    opening = symmetric(
        [(0.0, y), (0.5 * w, y + 0.01), (0.85 * w, y - 0.7 * lift), (0.4 * w, y + gap), (0.0, y + 1.1 * gap)]
    )
    canvas.fill(opening, (92, 30, 34))
    with canvas.within(opening):
        canvas.fill(ellipse(0.0, y, 0.8 * w, 0.75 * gap), (240, 236, 228))
