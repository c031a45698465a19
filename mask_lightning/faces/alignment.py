"""Align a face: the upright square that contains it, in which eyes, nose and mouth are at fixed places."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from mask_lightning.faces.detector import Face
from mask_lightning.settings.data import MARGIN

# Eyes, nose and corners of the mouth in a unit square, x and y: the positions to which ArcFace aligns (Deng et al.
# 2019; 112 x 112 pixels), symmetrical. The square ends at the brows and at the chin.
CANONICAL = np.array([[0.3430, 0.4606], [0.6570, 0.4606], [0.5, 0.6405], [0.3697, 0.8236], [0.6303, 0.8236]])
SIDES_PER_BOX = (0.6, 2.0)  # plausible sides of the square without a margin, relative to the longer side of the box

Points = npt.NDArray[np.floating]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frame:
    """A square in a photo, which may be rotated and may extend beyond the photo.

    Attributes:
        matrix: (2, 3), maps a point of the unit square to pixels of the photo.
    """

    matrix: Matrix

    @property
    def side(self) -> float:
        """Side in pixels of the photo."""
        return float(np.hypot(*self.matrix[:, 0]))

    @property
    def corners(self) -> Matrix:
        """Corners (4, 2) in pixels of the photo: top left, top right, bottom right, bottom left."""
        square = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
        corners: Matrix = square @ self.matrix.T
        return corners

    def scaled(self, factor: float) -> Frame:
        """Return the same frame in a photo that is `factor` times as large."""
        return Frame(self.matrix * factor)


def face_frame(face: Face, margin: float = MARGIN) -> Frame:
    """Compute the frame of a face from its landmarks.

    If the landmarks contradict the box, the frame is the upright square around the box.

    Args:
        face: a detected face.
        margin: share of the canonical square that is added on each of its sides.
    """
    frame = Frame(fit_similarity(_with_margin(CANONICAL, margin), face.landmarks))
    low, high = (limit * face.longer_side * (1 + 2 * margin) for limit in SIDES_PER_BOX)
    if low <= frame.side <= high:  # False for NaN
        return frame
    left, top, right, bottom = face.box
    side = face.longer_side * (1 + 2 * margin)
    return Frame(np.array([[side, 0, (left + right - side) / 2], [0, side, (top + bottom - side) / 2]]))


def _with_margin(points: Points, margin: float) -> Points:
    return (points + margin) / (1 + 2 * margin)


def fit_similarity(source: Points, target: Points) -> Matrix:
    """Fit a rotation, scale and translation that maps points to others with the least squared error.

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns", eq. 40 to 42.

    Args:
        source: points (N, 2), N >= 2. If all are equal, the result is NaN.
        target: points (N, 2) to which they are mapped.

    Returns:
        (2, 3): `target ~ matrix @ [x, y, 1]`. It never mirrors.

    Example:
        >>> fit_similarity(np.array([[0, 0], [1, 0]]), np.array([[5, 5], [5, 7]])).round(6) + 0.0
        array([[ 0., -2.,  5.],
               [ 2.,  0.,  5.]])
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - source_mean
    left, values, right = np.linalg.svd((target - target_mean).T @ centred / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    variance = centred.var(axis=0).sum()
    scale = values @ signs / variance if variance else np.nan
    linear = scale * left @ np.diag(signs) @ right
    return np.column_stack([linear, target_mean - linear @ source_mean])


def align(photo: Image.Image, frame: Frame, size: int) -> Image.Image:
    """Cut out a frame of an RGB photo and resize it to a square of `size` pixels.

    A frame that is larger than that is first averaged over blocks of pixels, then sampled at twice the size, so that
    fine patterns do not alias. Beyond the photo, its border pixels are repeated: a reflection would show a second face.

    Example:
        >>> align(Image.new("RGB", (640, 480)), Frame(np.array([[100.0, 0, 50], [0, 100.0, 50]])), 64).size
        (64, 64)
    """
    sampled = 2 * size if frame.side > size else size
    block = max(int(frame.side / sampled), 1)
    part, (left, top) = _cut_blocks(photo, frame.corners, block)
    matrix = frame.matrix / block
    matrix[:, :2] /= sampled
    matrix[:, 2] -= (left / block, top / block)
    kind = Image.Resampling.BILINEAR if sampled > size else Image.Resampling.BICUBIC
    coefficients = tuple(float(each) for each in matrix.ravel())
    warped = part.transform((sampled, sampled), Image.Transform.AFFINE, coefficients, kind)
    return warped.reduce(2) if sampled > size else warped


def _cut_blocks(photo: Image.Image, corners: Matrix, block: int) -> tuple[Image.Image, tuple[int, int]]:
    """Average the part of the photo around the corners over blocks; return it with its left and top in the photo."""
    border = 2 * block  # for the interpolation at the edge
    low = [math.floor(each) - border for each in corners.min(axis=0)]
    high = [math.ceil(each) + border for each in corners.max(axis=0)]
    # At least one pixel of the photo, if the frame lies outside of it.
    inner_low = [min(max(each, 0), side - 1) for each, side in zip(low, photo.size, strict=True)]
    inner_high = [
        max(min(each, side), start + 1) for each, side, start in zip(high, photo.size, inner_low, strict=True)
    ]
    part = photo.reduce(block, (*inner_low, *inner_high))
    before = [-(-(inner - outer) // block) for inner, outer in zip(inner_low, low, strict=True)]
    after = [-(-(outer - inner) // block) for inner, outer in zip(inner_high, high, strict=True)]
    if any((*before, *after)):
        margins = ((max(before[1], 0), max(after[1], 0)), (max(before[0], 0), max(after[0], 0)), (0, 0))
        part = Image.fromarray(np.pad(np.asarray(part), margins, mode="edge"))
    return part, (inner_low[0] - max(before[0], 0) * block, inner_low[1] - max(before[1], 0) * block)
