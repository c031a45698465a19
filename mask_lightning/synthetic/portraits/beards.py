"""Stubble, moustaches, goatees and full beards."""

import numpy as np

from mask_lightning.synthetic.portraits.canvas import Canvas, Points, symmetric
from mask_lightning.synthetic.portraits.colours import Colour, mix, shade
from mask_lightning.synthetic.portraits.people import Person

_LIP = symmetric([(0.0, 0.53), (0.24, 0.58), (0.40, 0.74), (0.2, 0.68), (0.0, 0.66)])
_CHIN = symmetric([(0.0, 0.90), (0.30, 0.92), (0.34, 1.15), (0.2, 1.40), (0.0, 1.45)])


def draw_beard(canvas: Canvas, person: Person) -> None:
    """Draw moustache, goatee, stubble or a full beard."""
    kind = person.hair.beard
    if kind == "none":
        return
    rng = np.random.default_rng(person.texture + 4)
    colour = shade(mix(person.hair.colour, (188, 186, 184), person.hair.grey), 0.85)
    opacity = 0.32 if kind == "stubble" else 0.9
    if kind in ("stubble", "full"):
        _whiskers(canvas, _jaw(person), colour, rng, opacity=opacity, count=260)
    if kind in ("goatee", "full"):
        _whiskers(canvas, _CHIN, colour, rng, opacity=opacity, count=60)
    _whiskers(canvas, _LIP, colour, rng, opacity=opacity, count=50)


def _jaw(person: Person) -> Points:
    w, jaw = person.features.width, 0.10 * person.features.jaw
    outer = [
        (0.97 * w, 0.0),
        (0.97 * w, 0.4),
        (0.84 + jaw, 0.85),
        (0.58 + jaw, 1.18),
        (0.28, 1.38),
        (0.0, 1.43),
    ]
    inner = [
        (0.0, 0.92),
        (0.28, 0.92),
        (0.44, 0.80),
        (0.5, 0.66),
        (0.70, 0.52),
        (0.86 * w, 0.2),
        (0.90 * w, 0.0),
    ]
    return symmetric([*inner, *outer])


def _whiskers(
    canvas: Canvas, region: Points, colour: Colour, rng: np.random.Generator, *, opacity: float, count: int
) -> None:
    canvas.fill(region, colour, opacity=opacity * 0.85, soft=0.03)
    if opacity < 0.5:
        return
    low, high = region.min(0), region.max(0)
    roots = rng.uniform(low, high, (count, 2))
    tips = roots * (1.03, 1.0) + (0.0, 0.07) + rng.normal(0.0, 0.01, (count, 2))
    with canvas.within(region):
        tones = [shade(colour, tone) for tone in rng.uniform(0.6, 1.35, count)]
        canvas.strands(np.stack([roots, tips], 1), tones, width=0.012)
