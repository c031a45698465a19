"""Photos as cameras, phones and programs write them, and safe paths."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask_lightning.data.images import is_photo, missing_files, open_photo, path_inside
from mask_lightning.errors import PhotoError, SampleTableError

RNG = np.random.default_rng(0)
RGB = Image.fromarray(RNG.integers(0, 256, (6, 4, 3), dtype=np.uint8))
GREY = Image.fromarray(RNG.integers(0, 256, (6, 4), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def transparent(alpha: int) -> Image.Image:
    image = RGB.copy()
    image.putalpha(alpha)
    return image


def on_white(alpha: int) -> np.ndarray:
    """Compute Porter and Duff's `over` on white."""
    share = alpha / 255
    return pixels(RGB) * share + 255 * (1 - share)


def sixteen_bits() -> Image.Image:
    return Image.fromarray(np.array([[0, 255, 0x7FFF], [0x8000, 0xFF00, 0xFFFF]], np.uint16))


def palette_with_a_hole() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    return image


@pytest.mark.parametrize(
    ("name", "image", "options", "want", "tolerance"),
    [
        ("rgb.png", RGB, {}, pixels(RGB), 0),
        ("rgb.webp", RGB, {"lossless": True}, pixels(RGB), 0),
        ("grey.png", GREY, {}, np.stack([pixels(GREY)] * 3, -1), 0),
        ("bits.png", Image.new("1", (2, 2), 1), {}, np.full((2, 2, 3), 255), 0),
        ("opaque.png", transparent(255), {}, pixels(RGB), 0),
        ("half.png", transparent(128), {}, on_white(128), 1),
        ("clear.png", transparent(0), {}, np.full((6, 4, 3), 255), 0),
        ("clear grey.png", Image.new("LA", (2, 2), (7, 0)), {}, np.full((2, 2, 3), 255), 0),
        (
            "hole.png",
            palette_with_a_hole(),
            {"transparency": 0},
            np.array([[[255, 255, 255], [40, 50, 60]]]),
            0,
        ),
        (
            "sixteen.png",
            sixteen_bits(),
            {},
            np.stack([np.array([[0, 255, 0x7FFF], [0x8000, 0xFF00, 0xFFFF]]) / 257] * 3, -1),
            1,
        ),
        ("cmyk.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), {}, np.full((8, 8, 3), (255, 0, 0)), 6),
        (
            "moves.gif",
            Image.new("RGB", (3, 3), (255, 0, 0)),
            {"save_all": True, "append_images": [Image.new("RGB", (3, 3), (0, 0, 255))]},
            np.full((3, 3, 3), (255, 0, 0)),
            0,
        ),
    ],
)
def test_every_format_and_mode_becomes_8_bit_rgb(
    tmp_path: Path, name: str, image: Image.Image, options: dict, want: np.ndarray, tolerance: int
) -> None:
    image.save(tmp_path / name, **options)
    photo = open_photo(tmp_path / name)
    assert photo.mode == "RGB"
    np.testing.assert_allclose(pixels(photo).astype(float), want, atol=tolerance)


# What a viewer has to do for each value of the EXIF tag (section 4.6.4 A of the standard), in NumPy.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photos_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    RGB.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(pixels(open_photo(tmp_path / "turned.png")), UPRIGHT[orientation](pixels(RGB)))


def claims(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that claims to be large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"IDAT" + zlib.compress(b"")
    chunks = (
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, body)
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg(size: int = 64) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    Image.fromarray(RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def half_a_png() -> bytes:
    """Return a truncated PNG, padded to its full size, as a disk leaves it after a crash."""
    from io import BytesIO

    buffer = BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "PNG")
    content = buffer.getvalue()
    return content[: len(content) // 2].ljust(len(content), b"\0")


# A program in PostScript, which Pillow would hand to Ghostscript.
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (half_a_png(), ["cannot decode", "bad header checksum"]),
        (POSTSCRIPT, ["cannot decode", "cannot identify"]),
        (None, ["expected a photo at", "found none"]),
        (b"", ["cannot decode", "replace or remove it"]),
        (b"this is no photo", ["cannot decode", "replace or remove it"]),
        (jpeg()[:1500], ["cannot decode", "truncated", "replace or remove it"]),
        (jpeg()[:20], ["cannot decode", "replace or remove it"]),
        (claims(8_001, 8_000), ["claims 8001x8000 pixels, more than 64,000,000", "scale it down"]),
        (claims(10_000, 10_000), ["claims 10000x10000 pixels", "scale it down"]),  # Pillow warns
        (claims(20_000, 20_000), ["cannot decode", "decompression bomb"]),  # Pillow raises
    ],
    ids=["half", "program", "missing", "empty", "text", "truncated", "header", "large", "larger", "bomb"],
)
def test_the_error_names_a_file_that_cannot_be_decoded(tmp_path: Path, content: bytes | None, parts: list[str]) -> None:
    path = tmp_path / "photo.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PhotoError) as caught:
        open_photo(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)


def test_a_folder_is_not_a_photo(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="cannot decode"):
        open_photo(tmp_path)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("mask1.jpg", True),
        ("mask1.JPEG", True),
        ("normal.png", True),
        ("a.b.webp", True),
        ("._mask1.jpg", False),
        (".hidden.png", False),
        ("Thumbs.db", False),
        ("train.csv", False),
        ("jpg", False),
    ],
)
def test_only_visible_files_with_a_photos_suffix_are_photos(name: str, want: bool) -> None:
    assert is_photo(Path("folder") / name) == want


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "faces"
    (root / "a").mkdir(parents=True)
    (root / "a" / "1.jpg").touch()
    (tmp_path / "secret.jpg").touch()
    (tmp_path / "faces-other").mkdir()
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "away").symlink_to(tmp_path / "faces-other")
    (root / "in.jpg").symlink_to(root / "a" / "1.jpg")
    return root


@pytest.mark.parametrize("name", ["a/1.jpg", "./a/1.jpg", "a/../a/1.jpg", "in.jpg", "{root}/a/1.jpg"])
def test_paths_inside_are_resolved(root: Path, name: str) -> None:
    assert path_inside(root, name.format(root=root)) == root.resolve() / "a" / "1.jpg"


@pytest.mark.parametrize(
    "name",
    ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd", "out.jpg", "away/x.jpg", "../faces-other/x.jpg", ".."],
)
def test_paths_that_leave_the_folder_are_refused(root: Path, name: str) -> None:
    with pytest.raises(SampleTableError, match=r"expected a path inside .*faces, found .*set data.root"):
        path_inside(root, name)


def test_a_path_with_a_zero_byte_is_refused(root: Path) -> None:
    with pytest.raises(SampleTableError, match="expected a path"):
        path_inside(root, "a\0.jpg")


def test_the_root_may_be_a_symlink(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert path_inside(tmp_path / "link", "a/1.jpg") == root.resolve() / "a" / "1.jpg"


def test_folders_are_missing_files(root: Path) -> None:
    assert missing_files([root / "a" / "1.jpg", root / "a", root / "2.jpg"]) == [root / "a", root / "2.jpg"]
