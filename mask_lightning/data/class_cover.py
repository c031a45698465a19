"""Choice of families so that a side of a split, or both, has every class: functions of (F, C) class members."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.labels import LabelSpace

MAX_STEPS = 2_000  # of the search for a split with every class on both sides
MAX_SWAPPED = 100  # families per side that are tried for a swap

Bools = npt.NDArray[np.bool_]


def class_members(table: pd.DataFrame, space: LabelSpace) -> pd.DataFrame:
    """Return a row per family and a column per class: True if the family has photos of the class."""
    return pd.DataFrame(
        {
            f"{task.name} {name}": (table[task.name] == i).groupby(table["family"]).any()
            for task in space.tasks
            for i, name in enumerate(task.classes)
        }
    )


def swap_to_cover(chosen: Bools, members: Bools) -> Bools:
    """Swap families so that each class with two or more families has one chosen and one that is not, if possible.

    Args:
        chosen: (F,) families on one side.
        members: (F, C), True for a family that has photos of the class.

    Returns:
        (F,) with as many chosen families; of the families of a side the first ones are kept.

    Example:
        >>> swap_to_cover(np.array([True, True, False, False]), np.array([[False], [False], [True], [True]])).tolist()
        [True, False, True, False]
    """
    classes = members[:, members.sum(0) > 1].astype(int)

    def misses(choice: Bools) -> int:
        return int((classes[choice].sum(0) == 0).sum() + (classes[~choice].sum(0) == 0).sum())

    while misses(chosen):
        side = chosen if (classes[chosen].sum(0) == 0).any() else ~chosen
        absent = int(np.argmin(classes[side].sum(0)))
        swaps = [
            (misses(swapped), -int(classes[come] @ classes[go]), come, -go)
            for come in np.flatnonzero(~side & (classes[:, absent] == 1))[:MAX_SWAPPED].tolist()
            for go in np.flatnonzero(side)[-MAX_SWAPPED:].tolist()
            for swapped in [_swap(chosen, come, go)]
        ]
        fewest, _, come, go = min(swaps)
        if fewest >= misses(chosen):
            break
        chosen = _swap(chosen, come, -go)
    return chosen


def _swap(chosen: Bools, one: int, other: int) -> Bools:
    swapped = chosen.copy()
    swapped[[one, other]] = chosen[[other, one]]
    return swapped


def divide(members: Bools, preferred: Bools, count: int | None = None) -> Bools | None:
    """Return sides (F,) on each of which every class has a family; None if none are found in MAX_STEPS.

    Args:
        members: (F, C), True for a family that has photos of the class.
        preferred: (F,) sides that families keep if possible.
        count: number of families on the side True; None for any.
    """
    room = {True: len(members) if count is None else count, False: len(members) - (count or 0)}
    totals = members.sum(0).tolist()
    fixed: dict[int, bool] = {}
    steps = 0

    def search() -> bool:
        """Fix a family for the need with the fewest candidates, and try the next one if the rest is impossible."""
        nonlocal steps
        steps += 1
        sides_of = [[side for i, side in fixed.items() if members[i, class_]] for class_ in range(len(totals))]
        needs = [
            (totals[class_] - len(sides), class_, side)
            for class_, sides in enumerate(sides_of)
            for side in (False, True)
            if side not in sides
        ]
        if not needs:
            return True
        _, class_, side = min(needs)
        if sum(each == side for each in fixed.values()) >= room[side]:
            return False
        needed = [other for _, other, of in needs if of == side]
        free = [i for i in np.flatnonzero(members[:, class_]).tolist() if i not in fixed]
        for i in sorted(free, key=lambda i: (-int(members[i, needed].sum()), preferred[i] != side)):
            fixed[i] = side
            if steps < MAX_STEPS and search():
                return True
            del fixed[i]
        return False

    if not search():
        return None
    sides = preferred.copy()
    sides[list(fixed)] = list(fixed.values())
    for i in range(len(sides)):
        surplus = 0 if count is None else int(sides.sum()) - count
        if surplus and i not in fixed and sides[i] == (surplus > 0):
            sides[i] = not sides[i]
    return sides


def first_with_all_classes(members: Bools, count: int) -> list[int]:
    """Return the first `count` of (F, C) families; others if these lack classes: for the rarest class first.

    Example:
        >>> first_with_all_classes(np.array([[True, False], [True, False], [False, True]]), 2)
        [2, 0]
    """
    order, missing = list(range(len(members))), members.any(0)
    if (members[order[:count]].any(0) == missing).all():
        return order[:count]
    chosen: list[int] = []
    while missing.any():
        rarest = min(np.flatnonzero(missing).tolist(), key=lambda class_: int(members[:, class_].sum()))
        having = np.flatnonzero(members[:, rarest]).tolist()
        chosen.append(max(having, key=lambda i: int((members[i] & missing).sum())))
        missing = missing & ~members[chosen[-1]]
    return [*chosen, *(i for i in order if i not in chosen)][:count]
