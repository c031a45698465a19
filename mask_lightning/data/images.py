"""Opening one photo safely, whatever camera or program wrote it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mask_lightning.errors import PhotoError, one_line

MAX_PIXELS = 64_000_000  # beyond any camera in use; a file that claims more is a decompression bomb

# What may hide behind any of the suffixes. Not all that Pillow knows: it would hand an EPS to Ghostscript, a program.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF")  # JPEG's reader is MPO's, too

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"})


def is_photo(path: Path) -> bool:
    """Whether the name is that of a photo: a known suffix, and not hidden (`._mask1.jpg` is macOS litter)."""
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")


@dataclass(frozen=True)
class Decoded:
    """A photo, and what its file says it is.

    Attributes:
        photo: upright, 8-bit RGB.
        mode, format: as stored, Pillow's names.
    """

    photo: Image.Image
    mode: str
    format: str


def open_photo(path: str | Path) -> Image.Image:
    """`decode_photo`, of which only the pixels matter."""
    return decode_photo(path).photo


def decode_photo(path: str | Path) -> Decoded:
    """Decode a photo to upright 8-bit RGB.

    EXIF orientation is applied; transparency is laid on white; 16-bit is scaled to 8; CMYK, palettes and
    grey become RGB; of an animation the first frame counts.

    Raises:
        PhotoError: missing, truncated, not an image, or of more than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken EXIF and odd palettes: the pixels are what counts
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise PhotoError(
                        f"{path} claims {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}; "
                        "scale it down or remove it"
                    )
                if image.format == "PNG":
                    _check_sums(path)
                mode, kind = image.mode, image.format or ""
                image.load()
                return Decoded(_to_rgb(ImageOps.exif_transpose(image)), mode, kind)
    except FileNotFoundError:
        raise PhotoError(f"expected a photo at {path}, found none; was it moved or deleted?") from None
    except PhotoError:
        raise
    except Exception as error:  # a damaged file ends Pillow's decoders in any of them
        reason = one_line(f"{type(error).__name__}: {error}")
        raise PhotoError(f"cannot decode {path} ({reason}); replace or remove it") from error


def _check_sums(path: str | Path) -> None:
    """Raises SyntaxError where a part of a PNG is not as it was written: Pillow would show what is missing as black."""
    with Image.open(path, formats=("PNG",)) as image:
        image.verify()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        # A PNG of 16 bits: Pillow's own conversion clips at 255 instead of scaling.
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
