"""Photo files: safe paths, decoding to RGB, and finding the photos that cannot be decoded."""

from __future__ import annotations

import getpass
import io
import logging
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from mask_lightning.errors import PhotoError, SampleTableError, one_line
from mask_lightning.utils.files import match_composition, wait_for_lock
from mask_lightning.utils.system import share_of_cores

log = logging.getLogger(__name__)

MAX_PIXELS = 200_000_000  # more than almost any camera takes; a file that claims more is a decompression bomb
LARGE = 50_000_000  # photos of more pixels are decoded one at a time, as each takes hundreds of megabytes
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit is lower, and is an error from 179 megapixels on

# Formats that are recognised by a file's content, behind any suffix; JPEG's reader also reads MPO. Pillow knows more,
# but would run Ghostscript on an EPS, and takes other files for formats without a signature.
FORMATS = (
    "JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "TIFF", "JPEG2000", "PPM", "PSD", "QOI", "PCX", "SGI", "SUN", "DDS"
)  # fmt: skip
FORMATS_BY_SUFFIX = {".tga": "TGA"}  # formats without a signature
HEIF = "HEIF"  # read by the extra `heic`
HEIF_EXTRA = "HEIC, pip install 'mask_lightning[heic]'"

# A file with one of these suffixes is a photo, whatever it contains, so that a damaged one is reported.
PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".avif", ".tif", ".tiff", ".jp2"}
)

# A file with one of these suffixes is no photo, whatever it contains.
TEXT_SUFFIXES = frozenset({".txt", ".csv", ".tsv", ".json", ".xml", ".html", ".md", ".yaml", ".yml", ".log", ".ini"})

# Files and folders that systems and NAS devices leave between photos; so do names that begin with a dot.
LITTER = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "@tmp", "#recycle", "@recycle",
     "$recycle.bin", "system volume information", "lost+found"}
)  # fmt: skip

MAX_NAMED = 20  # files in a line about files that are left out
MAX_LISTED = 5  # entries in a one-line message
POLL_SECONDS = 0.05  # between attempts to decode a large photo

Size = tuple[int, int]  # width, height


class PhotoBytes(io.BytesIO):
    """A photo's file in memory, which is decoded like one on the disk.

    Args:
        content: of the file.
        name: stands for the path in messages.
    """

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name: str = name

    def __str__(self) -> str:
        return self.name


PhotoSource = str | Path | PhotoBytes
Broken = dict[str, str]  # path -> reason why the photo cannot be decoded


def is_litter(name: str) -> bool:
    """Return True for the name of a file or folder that a system leaves between photos (macOS: `._mask1.jpg`).

    Example:
        >>> [is_litter(name) for name in ("._mask1.jpg", "Thumbs.db", "@eaDir", "mask1.jpg")]
        [True, True, True, False]
    """
    return name.startswith(".") or name.casefold() in LITTER


def is_photo(path: Path) -> bool:
    """Return True for a file with a photo's suffix, or with a photo's content and no suffix of text; not for litter.

    Example:
        >>> is_photo(Path("mask1.JPG")), is_photo(Path("._mask1.jpg")), is_photo(Path("notes.txt"))
        (True, False, False)
    """
    suffix = path.suffix.lower()
    if is_litter(path.name) or suffix in TEXT_SUFFIXES:
        return False
    return suffix in PHOTO_SUFFIXES or _has_photo_content(path)


def _has_photo_content(path: Path) -> bool:
    if is_heif(path):
        return _register_heif()  # a damaged one is a photo, too, and reported when it is decoded
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _open(path).close()
    except Image.DecompressionBombError:
        return True  # decoding reports it
    except Exception:  # Pillow's readers raise exceptions of many types for files of other kinds
        return False
    return True


def divide_files(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Divide files into photos and others, both in the given order; litter and folders are in neither.

    Symlinks to nothing are among the others.
    """
    kept = [path for path in paths if not is_litter(path.name)]
    files = {path for path in kept if path.is_file()}
    photos = [path for path in kept if path in files and is_photo(path)]
    known = set(photos)
    return photos, [path for path in kept if path not in known and (path in files or leads_nowhere(path))]


def leads_nowhere(path: Path) -> bool:
    """Return True for a symlink whose target does not exist."""
    return path.is_symlink() and not os.path.exists(path)  # noqa: PTH110 (Path.exists raises for a loop)


def describe_left_out(files: Sequence[Path]) -> str:
    """Count and name files that are no photos, for one line; "" for none. HEIC files come with what they need.

    Example:
        >>> describe_left_out([Path("a/notes.txt"), Path("a/list.csv")])
        '2 files left out, no photos: notes.txt, list.csv'
    """
    heif = [path for path in files if is_heif(path) and not _register_heif()]
    links = [path for path in files if leads_nowhere(path)]
    groups = {
        "no photos": [path for path in files if path not in heif and path not in links],
        "symlinks to nothing": links,
        f"for lack of the extra for {HEIF_EXTRA}": heif,
    }
    return "; ".join(
        f"{len(group)} {'file' if len(group) == 1 else 'files'} left out, {reason}: {name_some(group)}"
        for reason, group in groups.items()
        if group
    )


def name_some(files: Sequence[Path]) -> str:
    """Join the names of the first MAX_NAMED files, and count the rest."""
    names = ", ".join(path.name for path in files[:MAX_NAMED])
    return names + (f" and {len(files) - MAX_NAMED} more" if len(files) > MAX_NAMED else "")


def path_inside(root: Path, name: str, *, follow_symlinks: bool = False) -> Path:
    """Resolve a path that a table names, relative to `root` or absolute.

    Backslashes may separate folders, and names may compose their letters differently than the disk does (macOS).

    Args:
        root: folder that the path must not leave.
        name: the path.
        follow_symlinks: allow symlinks inside `root` that lead out of it; then the path is returned as it is inside.

    Raises:
        SampleTableError: the file lies outside `root`, by `../`, by an absolute path or through a symlink.
    """
    real_root = os.path.realpath(root)
    if "\0" in name:
        raise SampleTableError(f"expected a path, found {name!r}; correct it")
    name = _name_on_disk(real_root, name)
    real = Path(os.path.realpath(os.path.join(real_root, name)))  # noqa: PTH118 (Path.resolve is much slower)
    if real.is_relative_to(real_root):
        return real
    inside = Path(os.path.normpath(os.path.join(real_root, name)))  # noqa: PTH118
    if not inside.is_relative_to(real_root):
        common = os.path.commonpath([real_root, real.parent])
        typed = f", such as data.root={common}" if Path(common) != Path(common).parent else ""
        raise SampleTableError(
            f"expected a path inside {root}, found {name}, which leads to {real}; "
            f"move the photo inside, or set data.root to a folder that holds both{typed}"
        )
    if follow_symlinks or leads_nowhere(inside):  # the latter is reported as a missing photo
        return inside
    raise SampleTableError(
        f"expected a path inside {root}, found {name}, a symlink to {real}; move the photo inside, set data.root to a "
        "folder that holds both, or allow such symlinks with data.follow_symlinks=true"
    )


def _name_on_disk(root: str, name: str) -> str:
    """Return the name with the separators and the composition of letters that the disk has."""
    is_windows = re.match(r"[A-Za-z]:[\\/]|\\\\", name)
    if ("\\" in name or is_windows) and not os.path.lexists(os.path.join(root, name)):  # noqa: PTH118
        if is_windows:
            raise SampleTableError(
                f"expected a path inside {root}, found {name}, a path on Windows; delete what comes before the part "
                "inside this folder, so that it reads like photos/1.jpg"
            )
        name = name.replace("\\", "/")
    return match_composition(root, name)


def missing_files(paths: Iterable[Path]) -> list[Path]:
    """Return the paths that do not lead to a file."""
    return [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113 (Path.is_file raises for long names)


def name_in_other_case(path: Path) -> str | None:
    """Return the name on the disk that differs from a missing file's in case only; None if there is none."""
    try:
        alike = [entry.name for entry in path.parent.iterdir() if entry.name.casefold() == path.name.casefold()]
    except OSError:
        return None
    return alike[0] if alike and path.name not in alike else None


@dataclass(frozen=True)
class Decoded:
    """A decoded photo, with the mode and format of its file.

    Attributes:
        photo: upright, 8-bit RGB.
        mode, format: as stored in the file, by Pillow's names.
        size: width and height of the upright photo as stored; `photo` is smaller if it was decoded at a reduced size.
    """

    photo: Image.Image
    mode: str
    format: str
    size: Size


def open_photo(path: PhotoSource) -> Image.Image:
    """Decode a photo to upright 8-bit RGB; see `decode_photo`."""
    return decode_photo(path).photo


def decode_photo(path: PhotoSource, reduction: Callable[[Size], float] | None = None) -> Decoded:
    """Decode a photo to upright 8-bit RGB.

    EXIF orientation is applied, transparency is put on white, 16 bits are scaled to 8, and CMYK, palettes and grey
    become RGB. An animation gives its first frame.

    Photos of more than LARGE pixels are decoded one at a time by all processes of a user on this machine.

    Args:
        path: the file, or its content in memory.
        reduction: called with width and height of the upright photo; returns how many times smaller it may be decoded.
            A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size, which saves time and memory; other formats ignore it.

    Raises:
        PhotoError: the file is missing, truncated or not an image, or has more than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about broken EXIF and odd palettes: only the pixels matter here
            with _open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise PhotoError(
                        f"{path} claims {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}; "
                        "scale it down or remove it"
                    )
                if image.format == "PNG":
                    _check_png(path)
                mode, kind, size = image.mode, image.format or "", _upright_size(image)
                factor = reduction(size) if reduction and kind in ("JPEG", "MPO") else 1
                if factor > 1:
                    image.draft(None, (math.ceil(image.width / factor), math.ceil(image.height / factor)))
                with _turn(image.width * image.height):
                    image.load()
                    ImageOps.exif_transpose(image, in_place=True)  # without it, every photo is copied
                    return Decoded(_to_rgb(image, kind), mode, kind, size)
    except FileNotFoundError:
        raise PhotoError(f"expected a photo at {path}, found none; was it moved or deleted?") from None
    except PhotoError:
        raise
    except Exception as error:  # for damaged files Pillow's decoders raise exceptions of many types
        reason = one_line(f"{type(error).__name__}: {error}")
        raise PhotoError(f"cannot decode {path} ({reason}); replace or remove it") from error


def photo_size(path: str | Path) -> Size | None:
    """Read width and height of the upright photo without decoding it; None if the file is no photo."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _open(path) as image:
                return _upright_size(image)
    except Exception:  # decoding reports it
        return None


def _upright_size(image: Image.Image) -> Size:
    """Return width and height after `exif_transpose`."""
    turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (image.height, image.width) if turned else image.size


@contextmanager
def _turn(pixels: int) -> Iterator[None]:
    """Wait until no other process or thread of this user decodes a large photo, if this is one."""
    if pixels <= LARGE:
        yield
        return
    lock = Path(tempfile.gettempdir()) / f"mask_lightning-{getpass.getuser()}.lock"
    with suppress(OSError):  # without the lock, memory is the only thing at risk
        lock.touch()
    with wait_for_lock(lock, poll=POLL_SECONDS):
        yield


def _open(path: PhotoSource) -> Image.Image:
    """Read a photo's header, in any of FORMATS or HEIF.

    Raises:
        PhotoError: it is HEIF, and the extra `heic` is not installed.
        Exception: it cannot be identified; Pillow raises exceptions of many types.
    """
    try:
        return Image.open(_from_start(path), formats=FORMATS)
    except UnidentifiedImageError:
        if is_heif(path):
            require_heif(path)
            return Image.open(_from_start(path), formats=(HEIF,))
        by_suffix = FORMATS_BY_SUFFIX.get(Path(str(path)).suffix.lower())
        if by_suffix is None:
            raise
        return Image.open(_from_start(path), formats=(by_suffix,))


def _from_start(path: PhotoSource) -> PhotoSource:
    if isinstance(path, PhotoBytes):
        path.seek(0)
    return path


def is_heif(path: PhotoSource) -> bool:
    """Return True if the file begins like HEIF, as phones write it, whatever its suffix."""
    if isinstance(path, PhotoBytes):
        head = path.getvalue()[:12]
    else:
        try:
            with Path(path).open("rb") as stream:
                head = stream.read(12)
        except OSError:
            return False
    return head[4:8] == b"ftyp" and head[8:] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def require_heif(path: PhotoSource) -> None:
    """Let Pillow read HEIF. Raises PhotoError, which names the extra, if it is not installed."""
    if not _register_heif():
        raise PhotoError(f"cannot decode {path}: it needs the extra for {HEIF_EXTRA}")


@cache
def _register_heif() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _check_png(path: PhotoSource) -> None:
    """Raise SyntaxError for a PNG with wrong checksums, whose damaged part Pillow would show in black."""
    copy = PhotoBytes(path.getvalue(), path.name) if isinstance(path, PhotoBytes) else path  # the reader has a position
    with Image.open(copy, formats=("PNG",)) as image:
        image.verify()


def _to_rgb(image: Image.Image, kind: str) -> Image.Image:
    if image.mode == "F" or (image.mode == "I" and kind == "TIFF"):
        raise ValueError("numbers of 32 bits, of which nobody knows what is white; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow's own conversion of a 16-bit PNG clips at 255 instead of scaling.
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


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
