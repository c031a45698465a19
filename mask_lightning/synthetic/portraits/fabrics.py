"""What tells the kinds of masks apart: pleats, seams, ridges and patterns."""

from functools import partial

import numpy as np

from mask_lightning.synthetic.portraits.canvas import Canvas, PointsLike, ellipse, mirrored, shifted, smooth
from mask_lightning.synthetic.portraits.colours import WHITE, Colour, mix, shade
from mask_lightning.synthetic.portraits.fits import Fit, Mask


def draw_fabric(canvas: Canvas, mask: Mask, seat: Fit) -> None:
    """Draw the pleats, seams or pattern of a mask's kind."""
    _DETAILS[mask.kind](canvas, mask, seat)


def _line(
    canvas: Canvas,
    seat: Fit,
    path: PointsLike,
    colour: Colour,
    *,
    width: float,
    opacity: float = 1.0,
    soft: float = 0.0,
) -> None:
    canvas.stroke(smooth(seat.place(path)), colour, width=width, opacity=opacity, soft=soft)


def _surgical(canvas: Canvas, mask: Mask, seat: Fit) -> None:
    seam = partial(_line, canvas, seat)
    dark, lit = shade(mask.colour, 0.55), mix(mask.colour, WHITE, 0.6)
    for v in (0.34, 0.52, 0.70):
        pleat = np.array([(-1.1, v + 0.02), (-0.4, v), (0.0, v), (0.4, v), (1.1, v + 0.02)])
        seam(pleat, dark, width=0.03, opacity=0.55, soft=0.012)
        seam(shifted(pleat, 0.0, 0.03), lit, width=0.02, opacity=0.6, soft=0.008)
    for v in (0.055, 0.95):
        hem = [(-1.0, v + 0.07), (-0.5, v + 0.03), (0.0, v), (0.5, v + 0.03), (1.0, v + 0.07)]
        seam(hem, mix(mask.colour, WHITE, 0.35), width=0.05, opacity=0.7)
    wire = [(-0.3, 0.07), (0.0, 0.045), (0.3, 0.07)]
    seam(wire, shade(mask.colour, 0.7), width=0.025, opacity=0.6, soft=0.008)


def _cloth(canvas: Canvas, mask: Mask, seat: Fit) -> None:
    seam = partial(_line, canvas, seat)
    seam([(0.0, 0.0), (0.03, 0.35), (0.0, 1.05)], shade(mask.colour, 0.6), width=0.022, opacity=0.8)
    seam([(0.03, 0.0), (0.06, 0.35), (0.03, 1.05)], mix(mask.colour, WHITE, 0.4), width=0.015, opacity=0.5)
    for v, bow in ((0.06, 0.05), (0.95, -0.05)):
        hem = [(-1.0, v + bow), (0.0, v), (1.0, v + bow)]
        seam(hem, shade(mask.colour, 0.75), width=0.012, opacity=0.8)


def _kn95(canvas: Canvas, mask: Mask, seat: Fit) -> None:
    seam = partial(_line, canvas, seat)
    ridge = [(0.0, 0.0), (0.0, 0.5), (0.0, 1.05)]
    seam(ridge, shade(mask.colour, 0.66), width=0.03, opacity=0.8, soft=0.008)
    canvas.fill(seat.place([(0.02, 0.0), (0.25, 0.35), (0.02, 1.0)]), WHITE, opacity=0.3, soft=0.03)
    stitches = (
        [(0.07, 0.03), (0.5, 0.14), (0.86, 0.19)],
        [(0.07, 0.93), (0.4, 0.90), (0.8, 0.78)],
        [(0.80, 0.16), (0.76, 0.5), (0.72, 0.84)],
    )
    for path in stitches:
        for side in (-1.0, 1.0):
            seam(mirrored(path, side), shade(mask.colour, 0.7), width=0.014, opacity=0.9)
    seam([(-0.28, 0.09), (0.0, 0.06), (0.28, 0.09)], (150, 152, 156), width=0.035, opacity=0.8)


def _sport(canvas: Canvas, mask: Mask, seat: Fit) -> None:
    seam = partial(_line, canvas, seat)
    middle = [(0.0, 0.0), (0.0, 0.5), (0.0, 1.05)]
    seam(middle, mix(mask.colour, WHITE, 0.22), width=0.02, opacity=0.9)
    for side in (-1.0, 1.0):
        cut = mirrored([(0.25, 0.02), (0.6, 0.4), (0.55, 0.95)], side)
        seam(cut, mix(mask.colour, WHITE, 0.16), width=0.014)
        canvas.fill(seat.place(ellipse(side * 0.35, 0.45, 0.1, 0.22)), WHITE, opacity=0.10, soft=0.06)


def _patterned(canvas: Canvas, mask: Mask, seat: Fit) -> None:
    seam = partial(_line, canvas, seat)
    if mask.pattern in ("stripes", "checks"):
        for v in np.linspace(0.05, 0.95, 7):
            seam([(-1.1, v), (0.0, v), (1.1, v)], mask.trim, width=0.04, opacity=0.75)
    if mask.pattern == "checks":
        for u in np.linspace(-0.95, 0.95, 9):
            seam([(u, -0.1), (u, 0.5), (u, 1.1)], mask.trim, width=0.04, opacity=0.55)
    if mask.pattern in ("dots", "flowers"):
        for row, v in enumerate(np.linspace(0.08, 0.92, 6)):
            for u in np.linspace(-0.9, 0.9, 8) + 0.13 * (row % 2):
                _motif(canvas, mask, seat, float(u), float(v))
    _cloth(canvas, mask, seat)


def _motif(canvas: Canvas, mask: Mask, seat: Fit, u: float, v: float) -> None:
    if mask.pattern == "dots":
        canvas.fill(seat.place(ellipse(u, v, 0.045, 0.032)), mask.trim)
        return
    for du, dv in ((-0.035, 0.0), (0.035, 0.0), (0.0, -0.026), (0.0, 0.026)):
        canvas.fill(seat.place(ellipse(u + du, v + dv, 0.03, 0.022)), mask.trim)
    canvas.fill(seat.place(ellipse(u, v, 0.02, 0.015)), (236, 200, 90))


_DETAILS = {"surgical": _surgical, "cloth": _cloth, "kn95": _kn95, "sport": _sport, "patterned": _patterned}
