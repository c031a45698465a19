"""Which photos are the same, or nearly: pure arrays, without a Python loop over photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

BLOCK = 128  # rows compared with all others at once: 10 MB for 19,000 photos, more where many are alike
KEPT = 1_000  # pairs that are listed; more than that nobody looks through

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NearPairs:
    """Pairs of photos whose hashes differ in few bits.

    Attributes:
        pairs: (P, 3), the nearest KEPT pairs of different people: row, later row, bits that differ.
        across: how many pairs of different people there are.
        within: how many of one person.
    """

    pairs: Ints
    across: int
    within: int


def find_near_pairs(hashes: npt.NDArray[np.uint8], people: Ints, *, max_bits: int) -> NearPairs:
    """Compare all hashes.

    Args:
        hashes: (N, B), each B * 8 bits.
        people: (N,), a number per person.
        max_bits: pairs that differ in at most so many bits are near.
    """
    # Of hashes that differ in few bits, every second bit tells nearly as much, and costs half.
    step = 2 if max_bits <= hashes.shape[1] else 1
    signs = np.where(np.unpackbits(hashes, axis=1)[:, ::step], np.float32(1), np.float32(-1))
    kept, across, within = np.empty((0, 3), np.int64), 0, 0
    for start in range(0, len(signs), BLOCK):
        # The product of rows of signs is bits - 2 * difference: exact in float32, and BLAS is the fastest popcount.
        product = signs[start : start + BLOCK] @ signs[start:].T
        row, other = np.nonzero(product >= signs.shape[1] - 2 * max_bits)
        row, other = start + row[row < other], start + other[row < other]
        difference = np.unpackbits(hashes[row] ^ hashes[other], axis=1).sum(axis=1, dtype=np.int64)
        row, other, difference = (each[difference <= max_bits] for each in (row, other, difference))
        different = people[row] != people[other]
        across, within = across + int(different.sum()), within + int((~different).sum())
        pairs = np.stack([row, other, difference], axis=1)[different]
        kept = _nearest(np.concatenate([kept, pairs]))
    return NearPairs(kept, across, within)


def _nearest(pairs: Ints) -> Ints:
    return pairs[np.argsort(pairs[:, 2], kind="stable")[:KEPT]]


def find_copies(digests: pd.Series[str]) -> list[Ints]:
    """The positions of each group of two or more equal digests."""
    groups = digests.reset_index(drop=True).groupby(digests.to_numpy(), sort=False).indices
    return [np.asarray(rows, np.int64) for rows in groups.values() if len(rows) > 1]
