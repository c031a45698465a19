"""Photos as cameras, phones and programs write them, and safe paths."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask_lightning.data import images
from mask_lightning.data.images import (
    FORMATS,
    decode_photo,
    describe_left_out,
    divide_files,
    is_litter,
    is_photo,
    missing_files,
    open_photo,
    path_inside,
)
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
        (claims(20_001, 10_000), ["claims 20001x10000 pixels, more than 200,000,000", "scale it down"]),
        (claims(20_000, 20_000), ["claims 20000x20000 pixels", "scale it down"]),  # Pillow warns
        (claims(30_000, 20_000), ["cannot decode", "decompression bomb"]),  # Pillow raises
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


KINDS = {  # format: how Pillow is asked for it
    "JPEG": {},
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "WEBP": {"lossless": True},
    "AVIF": {},
    "TIFF": {},
    "JPEG2000": {},
    "PPM": {},
    "MPO": {},
    "PCX": {},
    "SGI": {},
    "DDS": {},
    "QOI": {},
}


@pytest.mark.parametrize(
    "name", ["photo.{}", "photo.jpg_1088Wx1632H", "photo", "PHOTO.JPE", "photo.jpg.bak", "photo.jpg"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_photos_are_recognised_by_content(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name.format(kind.lower())
    RGB.resize((64, 48)).save(path, kind, **KINDS[kind])
    assert is_photo(path)
    photo = open_photo(path)
    assert (photo.mode, photo.size) == ("RGB", (64, 48))


def test_tga_has_no_signature_and_needs_its_suffix(tmp_path: Path) -> None:
    for name in ("a.tga", "a"):
        RGB.save(tmp_path / name, "TGA")
    assert [is_photo(tmp_path / name) for name in ("a.tga", "a")] == [True, False]
    np.testing.assert_array_equal(pixels(open_photo(tmp_path / "a.tga")), pixels(RGB))


def test_formats_that_run_programs_are_not_read() -> None:
    assert not {"EPS", "WMF", "PDF", "FITS", "HDF5", "GRIB", "BUFR", "MPEG"} & set(FORMATS)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg", "tiff_deflate"])
def test_tiffs_are_read_upright(tmp_path: Path, compression: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (32, 16), (200, 20, 20))
    image.save(tmp_path / "a.tif", exif=exif, compression=compression)
    photo = open_photo(tmp_path / "a.tif")
    assert photo.size == (16, 32)
    np.testing.assert_allclose(pixels(photo)[8, 8], (200, 20, 20), atol=3)


@pytest.mark.parametrize("kind", ["float32", "int32"])
def test_tiffs_without_a_known_white_are_refused(tmp_path: Path, kind: str) -> None:
    Image.fromarray(np.zeros((4, 4), kind)).save(tmp_path / "a.tif")
    with pytest.raises(PhotoError, match="numbers of 32 bits, of which nobody knows what is white"):
        open_photo(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "name",
    [
        "Thumbs.db",
        "desktop.ini",
        ".DS_Store",
        "._a.jpg",
        "@eaDir",
        "__MACOSX",
        "ehthumbs.db",
        "$RECYCLE.BIN",
        "#recycle",
    ],
)
def test_litter_is_left_out_quietly(tmp_path: Path, name: str) -> None:
    RGB.save(tmp_path / name, "JPEG")
    assert is_litter(name)
    assert not is_photo(tmp_path / name)
    assert divide_files(tmp_path.iterdir()) == ([], [])


def test_files_that_are_left_out_are_counted_and_named(tmp_path: Path) -> None:
    files = {
        "b.txt": b"P6 notes",
        "a.jpg": jpeg(),
        "movie.mov": b"\0\0\0\x14ftypqt  ",
        "z.jpg": b"",
        "doc.pdf": b"%PDF-1.4",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.jpg").mkdir()
    photos, others = divide_files(sorted(tmp_path.iterdir()))
    assert [path.name for path in photos] == ["a.jpg", "z.jpg"]
    assert describe_left_out(others) == "3 files left out, no photos: b.txt, doc.pdf, movie.mov"
    assert describe_left_out([Path(f"{i}.txt") for i in range(30)]).endswith("19.txt and 10 more")


HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic and the rest of it"


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.jpg", "a"])
def test_heic_without_its_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(images, "_register_heif", lambda: False)
    (tmp_path / name).write_bytes(HEIC)
    with pytest.raises(PhotoError, match=r"cannot decode .*: it needs the extra for HEIC, pip install 'mask_light"):
        open_photo(tmp_path / name)
    _, others = divide_files([tmp_path / name])
    if name != "a.jpg":
        assert describe_left_out(others) == (
            f"1 file left out, for lack of the extra for HEIC, pip install 'mask_lightning[heic]': {name}"
        )


@pytest.mark.parametrize("name", ["a.heic", "a.jpg", "a"])
def test_heic_is_read_upright_with_its_extra(tmp_path: Path, name: str) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs the extra `heic`")
    heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (64, 48), (250, 0, 0))
    image.paste((0, 0, 250), (0, 0, 32, 48))
    image.save(tmp_path / name, "HEIF", exif=exif.tobytes(), quality=95)
    assert is_photo(tmp_path / name)
    decoded = decode_photo(tmp_path / name)
    assert (decoded.format, decoded.photo.size) == ("HEIF", (48, 64))
    top, bottom = pixels(decoded.photo)[8, 24], pixels(decoded.photo)[56, 24]
    np.testing.assert_allclose([top, bottom], [(0, 0, 250), (250, 0, 0)], atol=12)  # turned clockwise


def test_a_damaged_heic_is_a_photo_that_cannot_be_decoded(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif", reason="needs the extra `heic`")
    (tmp_path / "a.heic").write_bytes(HEIC)
    assert is_photo(tmp_path / "a.heic")
    with pytest.raises(PhotoError, match=r"cannot decode .*a.heic"):
        open_photo(tmp_path / "a.heic")


def test_photos_that_people_report(field_cases: Path) -> None:
    photos, others = divide_files(sorted((field_cases / "formats").iterdir()))
    names = [path.name for path in photos]
    assert names[:9] == ["a.jpg", "b.jfif", "c.avif", "d.tif", "e.bmp", "f.JPG", "g.webp", "h.png", "i.jpg_1088Wx1632H"]
    assert set(names[9:]) | {path.name for path in others} == {"notes.txt", "z.heic"}
    assert {open_photo(path).size for path in photos} == {(96, 128)}


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
