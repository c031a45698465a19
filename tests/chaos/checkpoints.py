"""Comparison of the checkpoints of two runs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils._pytree import tree_flatten

# Lightning's own counts of what it has begun: a part that was killed counts.
COUNTS = "loops"


def differences(found: Path, expected: Path) -> list[str]:
    """The parts of a checkpoint that are not the other's to the last bit."""
    contents = [torch.load(path, weights_only=True) for path in (found, expected)]
    parts = (contents[0].keys() | contents[1].keys()) - {COUNTS}
    return sorted(part for part in parts if not same(*(content.get(part) for content in contents)))


def same(found: object, expected: object) -> bool:
    """Nested mappings and sequences of tensors and plain values."""
    (leaves, structure), (others, other) = tree_flatten(found), tree_flatten(expected)
    return structure == other and all(
        torch.equal(leaf, value) if isinstance(leaf, torch.Tensor) else leaf == value
        for leaf, value in zip(leaves, others, strict=True)
    )
