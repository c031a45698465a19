"""Files that are whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path`; a crash leaves the old file or the new one, never half of one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temporary:
        try:
            temporary.write(content)
            temporary.flush()
            os.fsync(temporary.fileno())
        except BaseException:
            Path(temporary.name).unlink()
            raise
    written = Path(temporary.name)
    written.chmod(0o644)
    written.replace(path)


def remove_drafts(path: Path) -> None:
    """Remove what writes of `path` left that were killed; for who writes it alone."""
    for draft in path.parent.iterdir():
        if draft.name.startswith(f".{path.name}."):
            draft.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` to `path` as indented JSON, atomically; numbers that JSON lacks (NaN, infinity) become null."""
    write_atomically(path, (json.dumps(_strict(value), indent=2, allow_nan=False) + "\n").encode())


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
