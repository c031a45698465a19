"""Photo files: safe paths, decoding to RGB, and finding the photos that cannot be decoded."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from mask_lightning.errors import PhotoError, SampleTableError, one_line
from mask_lightning.utils.system import share_of_cores

log = logging.getLogger(__name__)

MAX_PIXELS = 64_000_000  # more than any camera takes; a file that claims more is a decompression bomb

# Formats that a file may have behind any suffix. Pillow knows more, but would run Ghostscript on an EPS.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF")  # JPEG's reader also reads MPO

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"})

MAX_LISTED = 5  # entries in a one-line message

Broken = dict[str, str]  # path -> reason why the photo cannot be decoded


def is_photo(path: Path) -> bool:
    """Return True for a file name with a photo's suffix that is not hidden (macOS leaves `._mask1.jpg` files).

    Example:
        >>> is_photo(Path("mask1.JPG")), is_photo(Path("._mask1.jpg")), is_photo(Path("notes.txt"))
        (True, False, False)
    """
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")


def path_inside(root: Path, name: str) -> Path:
    """Resolve a path that a table names, relative to `root` or absolute, following symlinks.

    Raises:
        SampleTableError: the file lies outside `root`, by `../`, by an absolute path or through a symlink.
    """
    real_root = os.path.realpath(root)
    if "\0" in name:
        raise SampleTableError(f"expected a path, found {name!r}; correct it")
    real = Path(os.path.realpath(os.path.join(real_root, name)))  # noqa: PTH118 (Path.resolve is much slower)
    if not real.is_relative_to(real_root):
        raise SampleTableError(
            f"expected a path inside {root}, found {name}, which leads to {real}; "
            "move the photo inside, or set data.root to a folder that holds both"
        )
    return real


def missing_files(paths: Iterable[Path]) -> list[Path]:
    """Return the paths that do not lead to a file."""
    return [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113 (Path.is_file raises for long names)


@dataclass(frozen=True)
class Decoded:
    """A decoded photo, with the mode and format of its file.

    Attributes:
        photo: upright, 8-bit RGB.
        mode, format: as stored in the file, by Pillow's names.
    """

    photo: Image.Image
    mode: str
    format: str


def open_photo(path: str | Path) -> Image.Image:
    """Decode a photo to upright 8-bit RGB; see `decode_photo`."""
    return decode_photo(path).photo


def decode_photo(path: str | Path) -> Decoded:
    """Decode a photo to upright 8-bit RGB.

    EXIF orientation is applied, transparency is put on white, 16 bits are scaled to 8, and CMYK, palettes and grey
    become RGB. An animation gives its first frame.

    Raises:
        PhotoError: the file is missing, truncated or not an image, or has more than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about broken EXIF and odd palettes: only the pixels matter here
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise PhotoError(
                        f"{path} claims {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}; "
                        "scale it down or remove it"
                    )
                if image.format == "PNG":
                    _check_png(path)
                mode, kind = image.mode, image.format or ""
                image.load()
                return Decoded(_to_rgb(ImageOps.exif_transpose(image)), mode, kind)
    except FileNotFoundError:
        raise PhotoError(f"expected a photo at {path}, found none; was it moved or deleted?") from None
    except PhotoError:
        raise
    except Exception as error:  # for damaged files Pillow's decoders raise exceptions of many types
        reason = one_line(f"{type(error).__name__}: {error}")
        raise PhotoError(f"cannot decode {path} ({reason}); replace or remove it") from error


def _check_png(path: str | Path) -> None:
    """Raise SyntaxError for a PNG with wrong checksums, whose damaged part Pillow would show in black."""
    with Image.open(path, formats=("PNG",)) as image:
        image.verify()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow's own conversion of a 16-bit PNG clips at 255 instead of scaling.
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def find_broken(paths: Sequence[str], *, progress: bool = False) -> Broken:
    """Decode every photo once and return those that cannot be decoded, with the reason.

    Threads suffice, because Pillow releases the GIL while it decodes.
    """
    console = Console(stderr=True)
    with ThreadPoolExecutor(max_workers=min(8, share_of_cores())) as pool:
        reasons = track(
            pool.map(decoding_error, paths),
            description="checking the photos",
            total=len(paths),
            console=console,
            transient=True,
            disable=not (progress and console.is_terminal),
        )
        return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason is not None}


def explain_broken(paths: Sequence[str]) -> Broken:
    """Return those of a few photos that cannot be decoded, with the reason."""
    reasons = {path: decoding_error(path) for path in paths}
    return {path: reason for path, reason in reasons.items() if reason is not None}


def decoding_error(path: str) -> str | None:
    """Return the message with which `open_photo` fails, or None for a photo that can be decoded."""
    try:
        open_photo(path)
    except PhotoError as error:
        return str(error)
    return None


def raise_if_broken(broken: Mapping[str, str], total: int) -> None:
    """Raise PhotoError naming the broken photos, if there are any among `total`."""
    if len(broken) == 1:
        raise PhotoError(next(iter(broken.values())))
    if broken:
        raise PhotoError(f"{len(broken)} of {total} photos cannot be decoded: {log_and_shorten(list(broken.values()))}")


def log_and_shorten(texts: Sequence[str]) -> str:
    """Join the first MAX_LISTED texts for a one-line message; log all of them as errors if there are more."""
    if len(texts) <= MAX_LISTED:
        return ", ".join(texts)
    for text in texts:
        log.error("  %s", text)
    return ", ".join(texts[:MAX_LISTED]) + f" and {len(texts) - MAX_LISTED} more, listed above"
