"""Draw hair and beards.

Hair consists of locks: a lock is the area between two curves, filled and covered with strands along them.
"""

import numpy as np

from mask_lightning.synthetic.canvas import (
    GREY,
    Canvas,
    Colour,
    Points,
    ellipse,
    mirrored,
    mix,
    shade,
    smooth,
    symmetric,
)
from mask_lightning.synthetic.portraits.people import Hair, Person

_SILVER: Colour = (214, 212, 208)
_MOUSTACHE = symmetric([(0.0, 0.53), (0.24, 0.58), (0.40, 0.74), (0.2, 0.68), (0.0, 0.66)])
_GOATEE = symmetric([(0.0, 0.90), (0.30, 0.92), (0.34, 1.15), (0.2, 1.40), (0.0, 1.45)])


def hair_colour(person: Person) -> Colour:
    """Hair colour including the grey."""
    return mix(person.hair.colour, GREY, 0.9 * person.hair.grey)


def draw_back_hair(canvas: Canvas, person: Person) -> None:
    """Draw the hair behind head and neck: open, tied or curly."""
    hair = person.hair
    if hair.length < 0.3 and hair.curl < 0.55:
        return
    rng = np.random.default_rng(person.texture + 2)
    colour = shade(hair_colour(person), 0.78)
    if hair.tied == "bun":
        _draw_curls(canvas, ellipse(0.0, -1.62, 0.38, 0.30), colour, rng, count=24)
    elif hair.tied == "tail":
        side = -1.0 if hair.part > 0 else 1.0
        outer = mirrored([(0.7, 0.2), (1.12, 0.9), (1.10, 1.7), (0.85, 2.5)], side)
        inner = mirrored([(0.3, 0.4), (0.62, 1.1), (0.62, 1.8), (0.80, 2.5)], side)
        _draw_lock(canvas, outer, inner, colour, hair, rng)
    elif hair.length >= 0.3:
        for side in (-1.0, 1.0):
            _draw_lock(canvas, *_curtain(hair, side), colour, hair, rng)
    else:
        halo = ellipse(0.0, -0.78, 1.06 + 0.15 * hair.volume, 0.80 + 0.15 * hair.volume)
        _draw_curls(canvas, halo, colour, rng, count=60)


def _curtain(hair: Hair, side: float) -> tuple[Points, Points]:
    # One side of the hair that hangs behind the neck.
    end, wide = _lower_end(hair), 1.06 + 0.16 * hair.volume + 0.10 * hair.curl
    fall = [(wide + 0.02, 0.2), (wide - 0.03, end - 0.3), (wide - 0.25, end)]
    outer = [(0.1, -1.45), (wide - 0.1, -0.8), *fall]
    inner = [(0.0, -1.3), (0.1, -0.6), (0.0, 0.2), (0.0, end - 0.25), (0.0, end - 0.05)]
    return mirrored(outer, side), mirrored(inner, side)


def draw_front_hair(canvas: Canvas, person: Person) -> None:
    """Draw the hair in front: top, sides, fringe and their shadow on the forehead."""
    hair = person.hair
    rng = np.random.default_rng(person.texture + 3)
    colour = hair_colour(person)
    shadow = symmetric([(0.0, -1.0), (0.5, -0.9), (0.9, -0.5), (0.8, -1.1), (0.0, -1.12)])
    canvas.fill(shadow, shade(person.features.skin, 0.5), opacity=0.30 * (1 - hair.receding), soft=0.07)
    bald = hair.receding > 0.82 and hair.length < 0.3
    for side in (-1.0, 1.0):
        outer, inner = _bald_side_hair(person, side) if bald else _side_hair(person, side)
        _draw_lock(canvas, outer, inner, colour, hair, rng)
    if hair.fringe and hair.receding < 0.5 and not bald:
        _draw_fringe(canvas, person, colour, rng)


def _lower_end(hair: Hair) -> float:
    return 0.2 + 1.9 * hair.length


def _side_hair(person: Person, side: float) -> tuple[Points, Points]:
    # Both curves start at the parting; the inner one is the hairline.
    hair, width = person.hair, person.features.width
    part, back = side * hair.part, hair.receding
    wide, high = width + 0.05 + 0.13 * hair.volume, 1.02 + 0.20 * hair.volume
    long = hair.length > 0.3 and hair.tied == "open"
    end = min(_lower_end(hair), 1.95) if long else -0.12 + 0.5 * min(hair.length, 0.35)
    angle = np.linspace(np.arcsin(part / wide), np.pi / 2, 5)
    crown = np.stack([wide * np.sin(angle), -0.48 - high * np.cos(angle)], 1)
    line = -1.00 - 0.28 * back
    temple = [(max(0.42, part + 0.1), line + 0.06), (0.76, -0.76 - 0.30 * back), (0.90 * width, -0.45)]
    if long:
        fall = [(wide + 0.05, 0.2), (wide + 0.06, 0.7 * end + 0.1), (wide - 0.10, end)]
        near = [(0.95 * width, 0.1), (0.93 * width + 0.02, 0.5 * end), (width - 0.14, end - 0.08)]
    else:
        fall = [(wide - 0.03, -0.25), (width + 0.02, end)]
        near = [(0.955 * width, -0.2), (width - 0.04, end - 0.05)]
    outer = np.concatenate([crown, fall])
    inner = np.array([(part, line), *temple, *near])
    return mirrored(outer, side), mirrored(inner, side)


def _bald_side_hair(person: Person, side: float) -> tuple[Points, Points]:
    width = person.features.width
    outer = [(0.86 * width, -0.88), (width + 0.03, -0.62), (width + 0.05, -0.3), (width + 0.01, 0.05)]
    inner = [(0.86 * width, -0.86), (0.92 * width, -0.55), (0.95 * width, -0.25), (0.96 * width, 0.05)]
    return mirrored(outer, side), mirrored(inner, side)


def _draw_fringe(canvas: Canvas, person: Person, colour: Colour, rng: np.random.Generator) -> None:
    sweep = 0.2 if person.hair.part > 0 else -0.2
    drop = float(rng.uniform(-0.62, -0.46))
    for left in np.linspace(-0.85, 0.62, 9):
        root, right = 0.45 * left + 0.6 * sweep, left + 0.30
        outer = [(root, -1.3), (left - 0.02, -0.9), (left, drop + rng.uniform(0, 0.09))]
        inner = [(root + 0.2, -1.3), (right, -0.9), (left + 0.10, drop + rng.uniform(0, 0.07))]
        _draw_lock(canvas, np.array(outer), np.array(inner), colour, person.hair, rng, strands=7)


def _draw_lock(
    canvas: Canvas,
    outer: Points,
    inner: Points,
    colour: Colour,
    hair: Hair,
    rng: np.random.Generator,
    *,
    strands: int = 38,
) -> None:
    first, last = _resampled(outer), _resampled(inner)
    steps = np.arange(len(first))
    drift = np.sin(steps * 0.62 + rng.uniform(0, 6))[:, None] * (1.0, 0.25)
    # No drift at the parting, where both sides meet.
    first = first + (0.012 + 0.055 * hair.curl) * drift * np.minimum(steps / 8.0, 1.0)[:, None]
    canvas.fill(np.concatenate([first, last[::-1]]), shade(colour, 0.82))
    share = rng.uniform(0.0, 1.0, (strands, 1, 1))
    bend = 0.03 * hair.curl * np.sin(steps[None, :, None] * 1.1 + 9 * share)
    inks = [mix(colour, _SILVER, 0.55) if grey else colour for grey in rng.random(strands) < hair.grey]
    tones = rng.uniform(0.62, 1.30, strands)
    canvas.strands(
        first * share + last * (1 - share) + bend,
        [shade(ink, tone) for ink, tone in zip(inks, tones, strict=True)],
        width=0.016,
    )


def _resampled(path: Points, count: int = 36) -> Points:
    """Points (count, 2) at equal distances on a smooth path, so that two paths can be interpolated."""
    curve = smooth(path, steps=8)
    reach = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))])
    even = np.linspace(0.0, reach[-1], count)
    return np.stack([np.interp(even, reach, curve[:, i]) for i in (0, 1)], 1)


def _draw_curls(canvas: Canvas, region: Points, colour: Colour, rng: np.random.Generator, *, count: int) -> None:
    low, high = region.min(0), region.max(0)
    centre, radius = (low + high) / 2, (high - low) / 2
    canvas.fill(region, shade(colour, 0.8))
    for _ in range(count):
        angle, far = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0.25, 1.0))
        x, y = centre + radius * far * (np.cos(angle), np.sin(angle))
        size = rng.uniform(0.07, 0.13)
        canvas.fill(ellipse(x, y, size), shade(colour, rng.uniform(0.75, 1.0)))
        canvas.stroke(ellipse(x, y, size * 0.7)[:14], shade(colour, rng.uniform(1.05, 1.4)), width=0.014)


def draw_beard(canvas: Canvas, person: Person) -> None:
    """Draw stubble, moustache, goatee or full beard, if the person has one."""
    kind = person.hair.beard
    if kind == "none":
        return
    rng = np.random.default_rng(person.texture + 4)
    colour = shade(mix(person.hair.colour, (188, 186, 184), person.hair.grey), 0.85)
    opacity = 0.32 if kind == "stubble" else 0.9
    if kind in ("stubble", "full"):
        _draw_whiskers(canvas, _full_beard(person), colour, rng, opacity=opacity, count=260)
    if kind in ("goatee", "full"):
        _draw_whiskers(canvas, _GOATEE, colour, rng, opacity=opacity, count=60)
    _draw_whiskers(canvas, _MOUSTACHE, colour, rng, opacity=opacity, count=50)


def _full_beard(person: Person) -> Points:
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


def _draw_whiskers(
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
