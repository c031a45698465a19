"""Families: people who must be on the same side of every split."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

import pandas as pd

log = logging.getLogger(__name__)


def sibling_families(person_ids: Iterable[str]) -> dict[str, str]:
    """Return the family of each id: the id without its last `-<number>` if that is an id too, else the id itself.

    In the competition's layout `-1` and `-2` mark other people in front of the same background.

    Example:
        >>> sibling_families(["000012", "000012-1", "2021-000", "2021-001"])
        {'000012': '000012', '000012-1': '000012', '2021-000': '2021-000', '2021-001': '2021-001'}
    """
    ids = list(dict.fromkeys(person_ids))
    known, families = set(ids), {}
    for person_id in ids:
        family = person_id
        while (base := re.sub(r"-\d+$", "", family)) != family and base in known:
            family = base
        families[person_id] = family
    return families


def join_families(families: pd.Series[str], *groups: pd.Series[str]) -> pd.Series[str]:
    """Join families that share a group, directly or through other families.

    Args:
        families: family of each row.
        groups: further texts of each row; rows with the same text of one series belong together.

    Returns:
        For each row the first name, in alphabetical order, of the families that are joined.

    Example:
        >>> join_families(pd.Series(["c", "b", "b", "a"]), pd.Series(["x", "x", "y", "z"])).tolist()
        ['b', 'b', 'b', 'a']
    """
    parent = {str(family): str(family) for family in families}

    def root(family: str) -> str:
        while parent[family] != family:
            parent[family] = parent[parent[family]]
            family = parent[family]
        return family

    for group in groups:
        first: dict[str, str] = {}
        for family, name in zip(families.astype(str), group, strict=True):
            one, other = sorted((root(family), root(first.setdefault(name, family))))
            parent[other] = one
    return families.map(lambda family: root(str(family)))


def join_families_of_people(table: pd.DataFrame, *, source: str) -> pd.DataFrame:
    """Return a sample table in which each person has one family: families that share a person are joined, with a log.

    Args:
        table: columns `person_id` and `family`.
        source: named in the log.
    """
    several = table.groupby("person_id")["family"].nunique() > 1
    if not several.any():
        return table
    people = [str(person) for person in several.index[several]]
    log.warning(
        "%d people in %s have photos of several families (%s%s); these families are joined, so that a person is on one "
        "side of the split",
        len(people),
        source,
        ", ".join(people[:5]),
        ", ..." if len(people) > 5 else "",
    )
    return table.assign(family=join_families(table["family"], table["person_id"]))
