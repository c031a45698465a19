"""Ids of people, and families: people who must be on the same side of every split."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

log = logging.getLogger(__name__)

MAX_NAMED = 5  # ids in a line of the log


def match_id(typed: str, known: Mapping[str, Sequence[str]]) -> str | None:
    """Return the id that was typed, or the only one that a spreadsheet would turn into it; None if there is none.

    Args:
        typed: the id in a file.
        known: result of `ids_by_value`.

    Example:
        >>> known = ids_by_value(["000001", "000012-1"])
        >>> [match_id(typed, known) for typed in ("000001", "1.0", "12-1", "2")]
        ['000001', '000001', '000012-1', None]
    """
    same = known.get(value_of_id(typed), ())
    if typed in same:
        return typed
    return same[0] if len(same) == 1 else None


def ids_by_value(ids: Iterable[str]) -> dict[str, list[str]]:
    """Group different ids by their value; see `value_of_id`."""
    known: dict[str, list[str]] = {}
    for person_id in dict.fromkeys(ids):
        known.setdefault(value_of_id(person_id), []).append(person_id)
    return known


def value_of_id(text: str) -> str:
    """Return an id without what spreadsheets, keyboards and systems change.

    That is leading zeros, `.0`, marks of text (`'1`, `="1"`), case, space, and the width and composition of letters.

    Example:
        >>> [value_of_id(text) for text in ("000012-1", "1.0", "'01", "Ann  Lee", "2021-000")]
        ['12-1', '1', '1', 'ann lee', '2021-000']
    """
    text = unicodedata.normalize("NFKC", " ".join(text.split())).casefold()
    text = re.sub(r"^(=?\"(.*)\"|'(.*))$", lambda match: match[2] or match[3] or "", text).strip()
    number = re.fullmatch(r"0*(\d+)(?:[.,]0*)?((?:-\d+)?)", text)
    return number[1] + number[2] if number else text


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
        ", ".join(people[:MAX_NAMED]),
        ", ..." if len(people) > MAX_NAMED else "",
    )
    return table.assign(family=join_families(table["family"], table["person_id"]))


def join_similar_ids(table: pd.DataFrame, *, source: str) -> pd.DataFrame:
    """Return a sample table in which ids of one value (`1` and `001`, `Ann` and `ann`) are one family, with a log.

    They may be one person, whose id a spreadsheet or a keyboard has changed in some lines.

    Args:
        table: columns `person_id` and `family`.
        source: named in the log.
    """
    alike = [ids for ids in ids_by_value(table["person_id"]).values() if len(ids) > 1]
    if alike:
        log.warning(
            "%d people in %s have ids that differ from others' in zeros, case or space only (%s%s): they are one "
            "family each; give one person one person_id",
            sum(map(len, alike)),
            source,
            ", ".join(" and ".join(map(repr, ids[:3])) for ids in alike[:MAX_NAMED]),
            ", ..." if len(alike) > MAX_NAMED else "",
        )
    people, families = table["person_id"].map(value_of_id), table["family"].map(value_of_id)
    if people.nunique() == table["person_id"].nunique() and families.nunique() == table["family"].nunique():
        return table
    return table.assign(family=join_families(table["family"], people, families))
