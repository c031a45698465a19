"""Which photos cannot be decoded, found by decoding all of them, and how that is told."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.progress import track

from mask_lightning.data.images import open_photo
from mask_lightning.errors import PhotoError
from mask_lightning.utils.system import share_of_cores

log = logging.getLogger(__name__)

NAMED = 5  # photos in an error message; the log has them all

Broken = dict[str, str]  # path -> why it cannot be decoded


def find_broken(paths: Sequence[str], *, progress: bool = False) -> Broken:
    """Decode every photo once, in threads, as Pillow lets others compute meanwhile."""
    console = Console(stderr=True)
    with ThreadPoolExecutor(max_workers=min(8, share_of_cores())) as pool:
        outcomes = track(
            pool.map(why_broken, paths),
            description="checking the photos",
            total=len(paths),
            console=console,
            transient=True,
            disable=not (progress and console.is_terminal),
        )
        return _broken(zip(paths, outcomes, strict=True))


def explain_broken(paths: Sequence[str]) -> Broken:
    """Why each of a few photos is broken, without those that are not."""
    return _broken((path, why_broken(path)) for path in paths)


def why_broken(path: str) -> str | None:
    """What `open_photo` says of a photo that it cannot decode; None of any other."""
    try:
        open_photo(path)
    except PhotoError as error:
        return str(error)
    return None


def refuse_broken(broken: Mapping[str, str], total: int) -> None:
    """Raise PhotoError naming the photos, if there are any, out of `total`."""
    if len(broken) == 1:
        raise PhotoError(next(iter(broken.values())))
    if broken:
        raise PhotoError(f"{len(broken)} of {total} photos cannot be decoded: {some(list(broken.values()))}")


def some(texts: Sequence[str]) -> str:
    """The first of them for a message of one line; all of them go to the log if there are more."""
    if len(texts) <= NAMED:
        return ", ".join(texts)
    for text in texts:
        log.error("  %s", text)
    return ", ".join(texts[:NAMED]) + f" and {len(texts) - NAMED} more, listed above"


def _broken(outcomes: Iterable[tuple[str, str | None]]) -> Broken:
    return {path: reason for path, reason in outcomes if reason is not None}
