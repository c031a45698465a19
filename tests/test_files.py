from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path

import pytest

from mask_lightning import files
from mask_lightning.files import write_atomically, write_json


def test_content_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_bytes(b"a longer old content")
    write_atomically(path, b"new\0\r\n")
    assert path.read_bytes() == b"new\0\r\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_others_may_read_the_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "record", b"")
    assert stat.S_IMODE((tmp_path / "record").stat().st_mode) == 0o644


@pytest.mark.parametrize("stop", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    def fail(_: int) -> None:
        raise stop

    path = tmp_path / "record"
    path.write_bytes(b"old")
    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(type(stop)):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


def test_json_is_readable_by_people_and_programs(tmp_path: Path) -> None:
    value = {"status": "finished", "best": {"val/f1": 0.5}}
    write_json(tmp_path / "result.json", value)
    text = (tmp_path / "result.json").read_text()
    assert json.loads(text) == value
    assert '\n  "best": {\n' in text
    assert text.endswith("}\n")


def test_what_json_has_no_number_for_is_null(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"best": {"a": math.nan, "b": 0.5}, "all": [math.inf, (-math.inf, 1)], "s": "NaN"})
    value = json.loads((tmp_path / "file").read_text(), parse_constant=pytest.fail)
    assert value == {"best": {"a": None, "b": 0.5}, "all": [None, [None, 1]], "s": "NaN"}
