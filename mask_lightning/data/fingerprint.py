"""A short name for a set of labelled photos, to tell whether two runs saw the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd


def fingerprint(table: pd.DataFrame) -> str:
    """16 hex digits from every photo's file name, folder, size and labels; not from where the folder lies.

    Nor from the order of the rows: runs with other splits of the same photos share it.
    """
    table = table.sort_values("path")
    labels = table.drop(columns="path").to_csv(index=False)
    digest = hashlib.sha256(labels.encode())
    for path in map(Path, table["path"]):
        digest.update(f"{path.parent.name}/{path.name}:{path.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]
