"""Photos of a request: names, sizes and types are checked before anything is decoded, and refused with a status.

Nothing here writes to a disk, except `keep_photo`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from mask_lightning.data.images import PhotoBytes, is_heif, require_heif
from mask_lightning.errors import PhotoError, one_line
from mask_lightning.utils.files import write_atomically

FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "AVIF": ".avif", "GIF": ".gif", "BMP": ".bmp"}
HEIF, HEIF_SUFFIX = "HEIF", ".heic"
MAX_NAME = 255  # characters of a file name, as file systems allow
MEGA = 1_000_000


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status, 4xx if the client can correct the cause.
        code: short name of the cause, for programs.
        message: one line for people: what was expected, what was found and what to do.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code, message)  # all of them, so that it can be pickled
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True)
class Limits:
    """Limits of a request.

    Attributes:
        photos: number of photos.
        photo_mb, request_mb: megabytes per photo and per request.
        megapixels: per photo.
    """

    photos: int = 16
    photo_mb: float = 16.0
    request_mb: float = 48.0
    megapixels: float = 50.0

    @property
    def request_bytes(self) -> int:
        """Bytes of a request's body."""
        return int(self.request_mb * MEGA)


class Upload(NamedTuple):
    """A photo as it was sent.

    Attributes:
        name: file name, without folders.
        content: bytes of the file.
    """

    name: str
    content: bytes


def check_name(name: str | None, position: int) -> str:
    """Return the file name of a photo, or one from its position (from 0) if it has none.

    Raises:
        RefusedError: the name contains a folder or a control character, or is too long; status 400.

    Example:
        >>> check_name("me.jpg", 0), check_name(None, 1)
        ('me.jpg', 'photo 2')
    """
    if not name:
        return f"photo {position + 1}"
    if len(name) > MAX_NAME or re.search(r"[/\\\x00-\x1f\x7f]", name) or name in (".", ".."):
        shown = one_line(repr(name), most=80)
        raise RefusedError(
            400, "bad_name", f"expected a file name of up to {MAX_NAME} characters, found {shown}; rename it"
        )
    return name


def check_uploads(uploads: Sequence[Upload], limits: Limits) -> None:
    """Check the number of photos and their bytes.

    Raises:
        RefusedError: there is no photo (status 400), there are too many, or one is too large (413) or empty (400).
    """
    if not uploads:
        raise RefusedError(400, "no_photo", 'expected one or more photos, found none; send them as the field "photos"')
    if len(uploads) > limits.photos:
        raise RefusedError(
            413,
            "too_many_photos",
            f"expected at most {limits.photos} photos, found {len(uploads)}; send them in several requests",
        )
    for name, content in uploads:
        if not content:
            raise RefusedError(
                400, "empty_photo", f"expected a photo, found no bytes in {name}; send the file's content"
            )
        if len(content) > limits.photo_mb * MEGA:
            raise RefusedError(
                413,
                "photo_too_large",
                f"expected at most {limits.photo_mb:g} MB per photo, found {len(content) / MEGA:.1f} MB in {name}; "
                "scale it down",
            )


def decode_base64(text: str, name: str) -> bytes:
    r"""Decode base64, also behind `data:image/...;base64,`. Raises RefusedError (400) for anything else.

    Example:
        >>> decode_base64("data:image/png;base64,AAEC", "x"), decode_base64("AAEC", "x")
        (b'\x00\x01\x02', b'\x00\x01\x02')
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError(
            400, "bad_base64", f"expected base64, found other characters in {name}; encode the file"
        ) from None


def open_upload(upload: Upload, limits: Limits) -> tuple[PhotoBytes, str]:
    """Read the header of a photo, without decoding it.

    Returns:
        The content for `data.images.decode_photo`, and Pillow's name of the format.

    Raises:
        RefusedError: it is no photo of a known format (status 415), too many pixels (413), or a damaged header (422).
    """
    source = PhotoBytes(upload.content, upload.name)
    formats = list(FORMATS)
    if is_heif(source):
        try:
            require_heif(source)
        except PhotoError as error:
            raise RefusedError(415, "wrong_type", str(error)) from None
        formats = [HEIF]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(source, formats=formats) as image:
                (width, height), kind = image.size, image.format or ""
    except UnidentifiedImageError:
        raise RefusedError(
            415,
            "wrong_type",
            f"expected a photo ({', '.join(FORMATS)}), found another type in {upload.name}; convert it",
        ) from None
    except Image.DecompressionBombError:
        raise _too_many_pixels(upload.name, "more than 200 megapixels", limits) from None
    except Exception as error:  # for damaged headers Pillow's readers raise exceptions of many types
        raise undecodable(upload.name, error) from error
    if width * height > limits.megapixels * MEGA:
        raise _too_many_pixels(upload.name, f"{width}x{height} pixels", limits)
    return source, kind


def undecodable(name: str, error: Exception) -> RefusedError:
    """Return the error for a photo that cannot be decoded: status 422."""
    reason = str(error) if isinstance(error, PhotoError) else f"cannot decode {name} ({type(error).__name__}: {error})"
    return RefusedError(422, "damaged_photo", one_line(reason, most=300))


def _too_many_pixels(name: str, found: str, limits: Limits) -> RefusedError:
    return RefusedError(
        413,
        "too_many_pixels",
        f"expected at most {limits.megapixels:g} megapixels, {name} claims {found}; scale it down",
    )


def keep_photo(upload: Upload, kind: str, folder: Path) -> Path:
    """Write a photo into a folder under a name of its own: time, hash of the content, suffix of its format.

    Raises:
        RefusedError: it cannot be written; status 507.
    """
    suffix = HEIF_SUFFIX if kind == HEIF else FORMATS.get(kind, ".jpg")  # MPO is a JPEG
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    path = folder / f"{time}-{hashlib.sha256(upload.content).hexdigest()[:16]}{suffix}"
    try:
        write_atomically(path, upload.content)
    except OSError as error:
        raise RefusedError(
            507,
            "cannot_keep",
            f"expected to keep the photo, which cannot be written ({error.strerror}); tell the operator",
        ) from error
    return path
