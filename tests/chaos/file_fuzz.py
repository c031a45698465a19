"""Photos and folders as disks, transfers and people break them: thousands, each the same whenever the seed is."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from option_fuzz import no_longer_than
from PIL import Image

from mask_lightning.data.images import open_photo
from mask_lightning.data.index import SHOTS, read_index
from mask_lightning.data.sources import read_photo_table
from mask_lightning.errors import MaskLightningError, PhotoError

SECONDS = 30

Break = Callable[[bytearray, random.Random], bytes]


def whole_photos() -> dict[str, bytes]:
    """Small photos of every kind that cameras and programs write."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8))
    deep = Image.fromarray(rng.integers(0, 2**16, (40, 30), np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    kinds: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "jpeg": (colour, {}),
        "progressive.jpeg": (colour, {"progressive": True, "exif": exif, "comment": b"a" * 100}),
        "cmyk.jpeg": (colour.convert("CMYK"), {}),
        "png": (colour, {"exif": exif}),
        "palette.png": (colour.quantize(16), {"transparency": 0}),
        "alpha.png": (colour.convert("RGBA"), {}),
        "deep.png": (deep, {}),
        "gif": (colour, {"save_all": True, "append_images": [colour.rotate(90)], "duration": 10}),
        "bmp": (colour, {}),
        "webp": (colour, {"exif": exif}),
    }
    photos = {}
    for name, (image, options) in kinds.items():
        buffer = BytesIO()
        image.save(buffer, format=name.rpartition(".")[2], **options)  # type: ignore[arg-type]
        photos[name] = buffer.getvalue()
    return photos


def cut_off(content: bytearray, rng: random.Random) -> bytes:
    """A transfer that broke off."""
    return bytes(content[: rng.randrange(len(content))])


def flip_bits(content: bytearray, rng: random.Random) -> bytes:
    """Some bits turned, mostly in the header, where sizes and kinds are."""
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        end = rng.choice((32, 128, len(content)))
        content[rng.randrange(min(end, len(content)))] ^= 1 << rng.randrange(8)
    return bytes(content)


def fill(content: bytearray, rng: random.Random) -> bytes:
    """A stretch of zeros, ones or noise, as a bad sector."""
    begin = rng.randrange(len(content))
    length = rng.choice((1, 2, 4, 64, 512))
    new = rng.choice((b"\0" * length, b"\xff" * length, rng.randbytes(length)))
    content[begin : begin + length] = new[: len(content) - begin]
    return bytes(content)


def take_out(content: bytearray, rng: random.Random) -> bytes:
    """A stretch that is missing, or there twice."""
    begin = rng.randrange(len(content))
    piece = content[begin : begin + rng.choice((1, 4, 100))]
    content[begin : begin + len(piece)] = piece * rng.choice((0, 2, 50))
    return bytes(content)


BREAKS: tuple[Break, ...] = (cut_off, flip_bits, flip_bits, fill, take_out)


def broken_photos(count: int, *, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` photos, each broken in one way or two, with the name of what it was."""
    rng, photos = random.Random(seed), whole_photos()
    for _ in range(count):
        name = rng.choice(sorted(photos))
        content = photos[name]
        for breaks in rng.sample(BREAKS, rng.choice((1, 1, 2))):
            content = breaks(bytearray(content or b"\0"), rng)
        yield name, content


def is_opened(content: bytes, path: Path) -> bool:
    """Return True if the photo is opened; False if it is refused as it should be.

    Raises:
        AssertionError: neither, or not in time.
    """
    path.write_bytes(content)
    try:
        with no_longer_than(SECONDS):
            photo = open_photo(path)
    except PhotoError as error:
        told = str(error)
        assert str(path) in told, f"an error that does not name its photo: {told}"
        return False
    except Exception as error:
        raise AssertionError(f"{content[:40]!r}... ends in {type(error).__name__}: {error}") from error
    assert photo.mode == "RGB"
    assert photo.width * photo.height
    return True


def people_names(rng: random.Random) -> str:
    """The name of a person's folder, right or nearly so."""
    parts = [
        rng.choice((f"{rng.randrange(10**6):06d}", "", "-1", "1-2", "ü", "0" * 200)),
        rng.choice(("male", "female", "Male", "", "child", "男")),
        rng.choice(("Asian", "", "_", "a b")),
        rng.choice(("18", "60", "-1", "121", "9" * 30, "", "²", "sixty", "3.5")),
    ]
    return rng.choice(("_", "_", "_", "-", "__")).join(parts)[:250] or "x"


def file_names(rng: random.Random) -> str:
    """The name of a photo, right or nearly so."""
    stem = rng.choice(
        (*SHOTS, *SHOTS, "mask6", "", "._mask1", "normal copy", "".join(rng.choices(string.printable[:94], k=5)))
    )
    return (stem + rng.choice((".jpg", ".JPG", ".png", "", ".txt", ".jpg.jpg"))).replace("/", "") or "x"


def write_folder(root: Path, rng: random.Random) -> None:
    """A folder of people without pixels, with whatever lies in such folders."""
    images = root / rng.choice(("train/images", "train/images", "images", "elsewhere"))
    images.mkdir(parents=True)
    right = rng.random() < 0.5
    for number in range(rng.randrange(6)):
        name = f"{number:06d}_female_Asian_{20 + number}" if right or rng.random() < 0.7 else people_names(rng)
        folder = images / name
        if folder.exists():
            continue
        what = rng.random()
        if what < 0.05:
            folder.touch()
        elif what < 0.1:
            folder.symlink_to(rng.choice((folder, root, Path("nowhere"))))
        else:
            folder.mkdir()
            for shot in SHOTS if right else [file_names(rng) for _ in range(rng.randrange(8))]:
                (folder / (f"{shot}.jpg" if right else shot)).touch()
    if rng.random() < 0.5:
        (images.parent / "train.csv").write_bytes(
            rng.choice((b"", b"path\n", b"\xff\xfe", b"path,id\na,b,c\n", rng.randbytes(99)))
        )


def write_table(root: Path, rng: random.Random) -> Path:
    """A CSV of photos that has been through a few hands."""
    (root / "a.jpg").touch()
    cells = (
        "a.jpg",
        "b.jpg",
        "../a.jpg",
        "/etc/passwd",
        "",
        " ",
        "1",
        "yes",
        '"',
        "a\nb",
        "\0",
        "=1+1",
        "ü",
        "x" * 300,
        "NA",
    )
    columns = ["path", "person_id", *rng.choices(("mask", "age", "years", "family", "", "path", "Unnamed: 0"), k=2)]
    rows = [[rng.choice(cells) for _ in columns] for _ in range(rng.randrange(5))]
    if rng.random() < 0.5:
        rows = [["a.jpg", f"p{i}", *row[2:]] for i, row in enumerate(rows)]
    text = pd.DataFrame(rows, columns=columns).to_csv(index=False).encode()
    if rng.random() < 0.3:
        text = rng.choice(BREAKS)(bytearray(text), rng)
    (root / "faces.csv").write_bytes(text)
    return root / "faces.csv"


def is_indexed(root: Path, seed: int) -> bool:
    """Return True if a folder or table of this seed becomes a sample table; False if it is refused as it should be.

    Raises:
        AssertionError: neither, or not in time.
    """
    rng = random.Random(seed)
    try:
        with no_longer_than(SECONDS):
            if seed % 2:
                return not read_photo_table(write_table(root, rng), None, space=None).table.empty
            write_folder(root, rng)
            return not read_index(root).empty
    except MaskLightningError:
        return False
    except Exception as error:
        raise AssertionError(f"the folder of seed {seed} ends in {type(error).__name__}: {error}") from error
