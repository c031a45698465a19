"""Output folders of commands: never overwritten, and a write error names the remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mask_lightning.errors import RunFolderError


def refuse_existing(folder: Path, names: Sequence[str]) -> None:
    """Raise RunFolderError if one of the files exists in the folder: results are never overwritten."""
    for name in names:
        if (folder / name).exists():
            raise RunFolderError(f"{folder} already holds {name}; name another folder, or none to get a new one")


def engine_cache(outputs: Path) -> Path:
    """Return the folder of the networks that `engine` has exported."""
    return outputs / "cache" / "engines"


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Create the folder for the block. Raise RunFolderError if that, or a write inside the block, fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder} ({error.strerror}); set outputs to another folder") from error
