"""The similarity against linear least squares; aligned pixels against plain resizing and rotation."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mask_lightning.faces.alignment import CANONICAL, Frame, align, face_frame, fit_similarity
from mask_lightning.faces.detector import Face, load_detector

RNG = np.random.default_rng(0)


def turned(degrees: float, scale: float, x: float, y: float) -> np.ndarray:
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[cos, -sin, x], [sin, cos, y]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def square(left: float, top: float, side: float) -> Frame:
    return Frame(np.array([[side, 0, left], [0, side, top]]))


def smooth(width: int, height: int) -> Image.Image:
    small = RNG.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("degrees", [0, 30, -75, 180])
@pytest.mark.parametrize("scale", [0.01, 1, 300])
def test_an_exact_similarity_is_found(degrees: float, scale: float) -> None:
    want = turned(degrees, scale, -4, 70)
    np.testing.assert_allclose(fit_similarity(CANONICAL, apply(want, CANONICAL)), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_squared_error_is_least(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = apply(turned(20 * seed, 90, 5, 6), CANONICAL) + rng.normal(0, 4, CANONICAL.shape)
    # a, b, x, y of [[a, -b, x], [b, a, y]] by linear least squares.
    rows = [row for x, y in CANONICAL for row in ([x, -y, 1, 0], [y, x, 0, 1])]
    a, b, x, y = np.linalg.lstsq(np.array(rows), target.ravel(), rcond=None)[0]
    np.testing.assert_allclose(fit_similarity(CANONICAL, target), [[a, -b, x], [b, a, y]], rtol=1e-6, atol=1e-6)


def test_it_never_mirrors() -> None:
    matrix = fit_similarity(CANONICAL, CANONICAL * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize("margin", [0.0, 0.25, 1.0])
def test_a_frame_puts_the_landmarks_to_the_canonical_places(margin: float) -> None:
    landmarks = apply(turned(25, 100, 200, 150), CANONICAL)
    frame = face_frame(Face((200, 150, 300, 270), 0.9, landmarks), margin)
    assert frame.side == pytest.approx(100 * (1 + 2 * margin))
    places = apply(frame.matrix, (CANONICAL + margin) / (1 + 2 * margin))
    np.testing.assert_allclose(places, landmarks, atol=1e-6)


@pytest.mark.parametrize("spread", [0.0, 0.05, 10.0])
def test_landmarks_that_contradict_the_box_are_ignored(spread: float) -> None:
    face = Face((100, 100, 200, 220), 0.5, 150 + CANONICAL * 100 * spread)
    frame = face_frame(face, margin=0.5)
    np.testing.assert_allclose(frame.corners, [[30, 40], [270, 40], [270, 280], [30, 280]])


@pytest.mark.parametrize("size", [30, 64, 100, 300])
def test_an_upright_frame_is_a_crop_that_is_resized(size: int) -> None:
    photo = smooth(400, 320)
    want = photo.crop((40, 20, 340, 320)).resize((size, size), Image.Resampling.BOX)
    assert distance(align(photo, square(40, 20, 300), size), want) < 2


def test_a_turned_frame_makes_the_photo_upright() -> None:
    photo = smooth(256, 256)
    quarter = Frame(np.array([[0, -256.0, 256], [256.0, 0, 0]]))  # its top is the photo's right side
    assert distance(align(photo, quarter, 128), photo.rotate(90).resize((128, 128))) < 2


@pytest.mark.parametrize("side", [200, 333, 900, 1990])
def test_fine_patterns_do_not_alias(side: float) -> None:
    checks = np.indices((2000, 2000)).sum(axis=0) % 2 * 255
    photo = Image.fromarray(np.repeat(checks[..., None], 3, axis=2).astype(np.uint8))
    pixels = np.asarray(align(photo, Frame(turned(10, side, 300, 0)), 64), float)
    assert pixels.std() < 20, "a pixel is the mean of several, so nearly grey"
    assert abs(pixels.mean() - 127.5) < 3


@pytest.mark.parametrize(
    ("left", "top", "where"),
    [(-50, 0, np.s_[:, :48]), (50, 0, np.s_[:, 52:]), (0, -50, np.s_[:48]), (0, 50, np.s_[52:])],
)
def test_the_border_is_repeated_beyond_the_photo(left: float, top: float, where: tuple[slice, ...]) -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[[0, -1]] = pixels[:, [0, -1]] = 200
    found = np.asarray(align(Image.fromarray(pixels), square(left, top, 100), 100))
    inner = found[where][5:-5] if left else found[where][:, 5:-5]
    across = inner.mean(axis=1 if left else 0)
    assert (across > 190).any(axis=-1).any()
    assert np.ptp(inner.astype(int), axis=1 if left else 0).max() == 0, "each line beyond repeats its border pixel"


@pytest.mark.parametrize(
    "frame", [square(500, 500, 90), square(-500, 10, 30), square(5, 5, 0.2), square(-900, -900, 2000)]
)
@pytest.mark.parametrize("size", [(100, 80), (1, 1)])
def test_any_frame_gives_a_square(frame: Frame, size: tuple[int, int]) -> None:
    found = align(Image.new("RGB", size, (10, 200, 30)), frame, 32)
    assert (found.size, found.getcolors()) == ((32, 32), [(1024, (10, 200, 30))])


def test_tilted_heads_become_upright(astronaut: Image.Image) -> None:
    upright = align(astronaut, face_frame(load_detector().find(astronaut)[0]), 96)
    for degrees in (-20, 20, 180):
        photo = astronaut.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
        face = load_detector().find_one(photo)
        assert face is not None
        found = align(photo, face_frame(face), 96)
        inner = [np.asarray(each.convert("L"))[24:72, 24:72].ravel() for each in (found, upright)]
        assert np.corrcoef(*inner)[0, 1] > 0.75, degrees
