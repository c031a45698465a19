"""Read CSVs as text: strictly, or as spreadsheets in any language save them."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path

import pandas as pd

from mask_lightning.errors import SampleTableError, one_line

log = logging.getLogger(__name__)

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
UNNAMED = "Unnamed: "  # prefix of the name of a column without a heading, such as a saved index
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200e\u200f\u2060\ufeff\u00ad"))  # spaces without width, and the like
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
        raise SampleTableError(f"cannot read {path} ({one_line(str(error))}); save it as a CSV in UTF-8") from error
    if not isinstance(cells.index, pd.RangeIndex):  # pandas makes surplus cells the index
        raise SampleTableError(f"{path} has lines with more cells than headings; quote cells that contain a comma")
    return cells


def read_cells(path: Path, headings: Iterable[str] = ()) -> pd.DataFrame:
    r"""Read a CSV as a spreadsheet saves it: cells of text without surrounding space, "" if empty.

    Columns may be separated by commas, semicolons, tabs or bars, in UTF-8, UTF-16 or a Korean encoding. Empty lines and
    invisible characters are left out.

    Args:
        path: the file.
        headings: names that are recognised in any case, with space, `-` or `_` between words.

    Returns:
        The cells; the index plus 2 is the number of the line.

    Raises:
        SampleTableError: it is no CSV, has a line with more cells than headings, or two columns of one heading.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "faces.csv"
        ...     _ = path.write_text("Path;Person ID;smile\na.jpg;1;yes\n")
        ...     read_cells(path, ["path", "person_id"]).to_dict("records")
        [{'path': 'a.jpg', 'person_id': '1', 'smile': 'yes'}]
    """
    known = {_key(heading): heading for heading in headings}
    try:
        text = _decode(path, path.read_bytes()).translate(INVISIBLE)
        if not text.strip('\r\n "' + "".join(SEPARATORS)):
            raise ValueError("it is empty")
        separator = _find_separator(text, known)
    except (OSError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise SampleTableError(f"cannot read {path} ({error}); save it as a CSV in UTF-8") from error
    (_, first), *lines = [(number, cells) for number, cells in _read_lines(path, text, separator) if any(cells)]
    names = _name_columns(path, first, known)
    for number, cells in lines:
        if any(cells[len(names) :]):
            raise SampleTableError(
                f"{path}, line {number} has {len(cells)} cells, the headings are {len(names)}; quote cells that "
                f"contain {SEPARATORS[separator]}, or add a heading"
            )
    rows = [(cells + [""] * len(names))[: len(names)] for _, cells in lines]
    return pd.DataFrame(rows, [number - 2 for number, _ in lines], names, dtype="str")


def _read_lines(path: Path, text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Return the number of the first line and the stripped cells of each row."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, start = [], 1
    try:
        for cells in reader:
            rows.append((start, [cell.strip() for cell in cells]))
            start = reader.line_num + 1
    except csv.Error as error:
        raise SampleTableError(
            f"cannot read {path}, line {start} ({error}); close its quotation marks, and write one inside a cell twice"
        ) from None
    return rows


def _decode(path: Path, content: bytes) -> str:
    if content.startswith(b"PK\x03\x04") or content.startswith(b"\xd0\xcf\x11\xe0"):
        raise ValueError("it is a workbook of a spreadsheet")
    if content.startswith(UTF_16_MARKS) and "\0" not in (text := content.decode("utf-16")):
        return text
    if b"\0" in content:
        raise ValueError("it is not text: it has zero bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = _decode_korean(content)
        if not text:
            raise
    found = re.search("[가-힣]+", text)
    log.warning("%s is no UTF-8; read as Korean (cp949), such as %s", path, found[0] if found else "")
    return text


def _decode_korean(content: bytes) -> str:
    """Decode cp949, of which euc-kr is a part; "" if the text is not Korean.

    Chinese and Japanese text can be decoded, too, to Chinese characters and to syllables that euc-kr lacks.
    """
    try:
        text = content.decode("cp949")
    except UnicodeDecodeError:
        return ""
    foreign = [char for char in text if not char.isascii()]
    korean = [char for char in foreign if "가" <= char <= "힣" or "ㄱ" <= char <= "ㆎ"]
    common = [char for char in korean if len(char.encode("euc-kr")) == 2]  # others are composed of 8 bytes
    chinese = any("\u4e00" <= char <= "\u9fff" or "\uf900" <= char <= "\ufaff" for char in foreign)
    return "" if chinese or 2 * len(korean) < len(foreign) or 2 * len(common) < len(korean) else text


def _find_separator(text: str, known: Container[str]) -> str:
    """Return the separator that gives the most headings: known ones, then any."""
    line = text.lstrip("\r\n").splitlines()[0].strip()
    if re.fullmatch(r"sep=.?", line):
        raise ValueError(f"its first line is {line}, not the headings: remove that line")

    def count(separator: str) -> tuple[int, int]:
        rows = csv.reader(StringIO(text, newline=""), delimiter=separator)
        headings = next((cells for cells in rows if any(map(str.strip, cells))), [])
        return sum(_key(cell) in known for cell in headings), len(headings)

    return max(SEPARATORS, key=count)


def _name_columns(path: Path, typed: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Return the known name of a heading that differs in case and in the space between words only, else itself."""
    names = [known.get(_key(name), " ".join(name.split())) or f"{UNNAMED}{i}" for i, name in enumerate(typed)]
    for name in dict.fromkeys(names):
        same = [old for old, new in zip(typed, names, strict=True) if new == name]
        if len(same) > 1:
            raise SampleTableError(f"{path} has {len(same)} columns {name} ({', '.join(same)}); rename all but one")
    return names


def _key(heading: str) -> str:
    return re.sub(r"[\s_-]+", "_", heading.strip().casefold())
