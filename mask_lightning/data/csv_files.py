"""Read CSVs as text: strictly, or as spreadsheets in any language save them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import pandas as pd

from mask_lightning.errors import SampleTableError

log = logging.getLogger(__name__)

SEPARATORS = ",;\t|"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_csv(path: Path, *, empty_only: bool = False) -> pd.DataFrame:
    """Read a CSV with commas in UTF-8 with all values as text.

    Args:
        path: the file.
        empty_only: only empty cells are missing values; else also `NA`, `None` and the like.

    Raises:
        SampleTableError: it is not such a CSV, or has lines with more cells than headings.
    """
    try:
        if path.suffix.lower() == ".csv" and b"\0" in path.read_bytes():
            raise ValueError("it is not text: it has zero bytes")  # up to pandas 3.0 they would end a cell
        cells = pd.read_csv(path, dtype=str, keep_default_na=not empty_only)
    except (OSError, ValueError) as error:  # pandas' errors and UnicodeDecodeError are ValueErrors
        raise SampleTableError(f"cannot read {path} ({error}); save it as a CSV in UTF-8") from error
    _check_cells(path, cells)
    return cells


def read_cells(path: Path, headings: Iterable[str] = ()) -> pd.DataFrame:
    r"""Read a CSV as a spreadsheet saves it: cells of text without surrounding space, "" if empty.

    Columns may be separated by commas, semicolons, tabs or bars, in UTF-8, UTF-16 or a Korean encoding. Empty lines are
    left out.

    Args:
        path: the file.
        headings: names that are recognised in any case, with space, `-` or `_` between words.

    Returns:
        The cells; the index plus 2 is the number of the line.

    Raises:
        SampleTableError: it is no CSV, has lines with more cells than headings, or two columns for a heading.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "faces.csv"
        ...     _ = path.write_text("Path;Person ID;smile\na.jpg;1;yes\n")
        ...     read_cells(path, ["path", "person_id"]).to_dict("records")
        [{'path': 'a.jpg', 'person_id': '1', 'smile': 'yes'}]
    """
    try:
        text = _decode(path, path.read_bytes())
        first = len(text) - len(text.lstrip("\r\n"))
        before = text[:first].count("\n")
        text = text[first:]
        separator = _find_separator(text)
        cells = pd.read_csv(
            StringIO(text, newline=""), dtype=str, sep=separator, keep_default_na=False, skip_blank_lines=False
        )
    except (OSError, ValueError) as error:  # pandas' errors and UnicodeDecodeError are ValueErrors
        raise SampleTableError(f"cannot read {path} ({error}); save it as a CSV in UTF-8") from error
    _check_cells(path, cells, separator)
    cells = cells.fillna("").apply(lambda column: column.str.strip())
    if len(cells.columns) and len(cells):
        breaks = sum(column.str.count("\n") for _, column in cells.items())
        cells.index = cells.index + before + breaks.cumsum().shift(fill_value=0).astype(int)
        cells = cells[(cells != "").any(axis=1)]
    return _rename(path, cells, headings)


def _decode(path: Path, content: bytes) -> str:
    if content.startswith(b"PK\x03\x04") or content.startswith(b"\xd0\xcf\x11\xe0"):
        raise ValueError("it is a workbook of a spreadsheet")
    if content.startswith(UTF_16_MARKS):
        return content.decode("utf-16")
    if b"\0" in content:
        raise ValueError("it is not text: it has zero bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = _decode_korean(content)
        if text is None:
            raise
    found = re.search("[가-힣]+", text)
    log.warning("%s is no UTF-8; read as Korean (cp949), such as %s", path, found[0] if found else "")
    return text


def _decode_korean(content: bytes) -> str | None:
    """Decode cp949, of which euc-kr is a part; None if the text is not Korean."""
    try:
        text = content.decode("cp949")
    except UnicodeDecodeError:
        return None
    foreign = [char for char in text if not char.isascii()]
    korean = sum("가" <= char <= "힣" or "ㄱ" <= char <= "ㆎ" for char in foreign)
    return text if 2 * korean >= len(foreign) else None


def _find_separator(text: str) -> str:
    """Return the separator that the headings have most of; a comma if they have none."""
    headings = re.sub(r'"[^"]*"', "", text.partition("\n")[0])
    if re.fullmatch(r"sep=.\s*", headings):
        raise ValueError(f"its first line is {headings.strip()}, not the headings: remove that line")
    return max(SEPARATORS, key=headings.count)


def _check_cells(path: Path, cells: pd.DataFrame, separator: str = ",") -> None:
    if not isinstance(cells.index, pd.RangeIndex):  # pandas makes surplus cells the index
        name = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}[separator]
        raise SampleTableError(f"{path} has lines with more cells than headings; quote cells that contain {name}")


def _rename(path: Path, cells: pd.DataFrame, headings: Iterable[str]) -> pd.DataFrame:
    """Name columns as in `headings` if they differ in case and in the space between words only."""
    known = {_key(heading): heading for heading in headings}
    typed = [str(name).strip() for name in cells.columns]
    named = [known.get(_key(name), name) for name in typed]
    for name in known.values():
        same = [old for old, new in zip(typed, named, strict=True) if new == name]
        if len(same) > 1:
            raise SampleTableError(f"{path} has {len(same)} columns {name} ({', '.join(same)}); rename all but one")
    cells.columns = pd.Index(named)
    return cells


def _key(heading: str) -> str:
    return re.sub(r"[\s_-]+", "_", heading.strip().casefold())
