"""Paths that a table names, held inside its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mask_lightning.errors import SampleTableError


def path_inside(root: Path, name: str) -> Path:
    """The file called `name` below `root` (or an absolute path there), with symlinks resolved.

    Raises:
        SampleTableError: it lies elsewhere, by `../`, by an absolute path or through a symlink.
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
    """Those of the paths where no file is, nor can be."""
    return [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113 (Path.is_file minds long names)
