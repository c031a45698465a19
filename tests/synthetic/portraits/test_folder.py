import csv
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mask_lightning.data.index import SHOTS
from mask_lightning.errors import ConfigError
from mask_lightning.synthetic.portraits import folder, write_portraits
from mask_lightning.synthetic.portraits.folder import STAMP_FILE


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_portraits(tmp_path_factory.mktemp("portraits") / "drawn", people=1, seed=0)


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}


@pytest.fixture
def copy(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "copy"))


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise AssertionError("must not draw")

    monkeypatch.setattr(folder, "_draw", fail)


def test_layout(drawn: Path) -> None:
    with (drawn / "train" / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["000001"]
    for row in rows:
        assert row["path"] == f"{row['id']}_{row['gender']}_{row['race']}_{row['age']}"
        photos = list((drawn / "train" / "images" / row["path"]).iterdir())
        assert Counter(photo.stem for photo in photos) == Counter(SHOTS)
        assert {photo.suffix for photo in photos} <= {".jpg", ".jpeg", ".png"}
        for photo in photos:
            with Image.open(photo) as image:
                assert (image.size, image.mode) == ((384, 512), "RGB")
    assert not [path for path in drawn.parent.iterdir() if path != drawn]


def test_extensions_are_mixed(drawn: Path) -> None:
    assert len({photo.suffix for photo in drawn.rglob("images/*/*")}) > 1


@pytest.mark.parametrize(("seed", "same"), [(0, True), (1, False)])
def test_the_seed_determines_the_files(drawn: Path, tmp_path: Path, seed: int, same: bool) -> None:
    again = write_portraits(tmp_path / "again", people=1, seed=seed)
    assert (contents(again) == contents(drawn)) == same


@pytest.mark.usefixtures("no_drawing")
def test_a_complete_folder_is_unchanged(drawn: Path) -> None:
    before = times(drawn)
    assert write_portraits(drawn, people=1, seed=0) == drawn
    assert times(drawn) == before


@pytest.mark.parametrize("loss", ["photo", "table", "broken stamp", "older drawing"])
def test_an_incomplete_folder_is_drawn_again(
    drawn: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    monkeypatch.setattr(folder, "_draw", lambda draft, _: shutil.copytree(drawn, draft))
    if loss == "photo":
        next(copy.rglob("normal.*")).unlink()
    elif loss == "table":
        (copy / "train" / "train.csv").unlink()
    elif loss == "broken stamp":
        (copy / STAMP_FILE).write_text('{"people":')
    else:
        (copy / STAMP_FILE).write_text(json.dumps({"drawing": 0, "people": 1, "seed": 0}))
    write_portraits(copy, people=1, seed=0)
    assert contents(copy) == contents(drawn)
    assert list(copy.parent.iterdir()) == [copy]


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_foreign_files_are_not_overwritten(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "mine"
    mine = root / "holiday.jpg" if kind == "folder" else root
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("precious")
    with pytest.raises(ConfigError, match="move it away"):
        write_portraits(root, people=1)
    assert mine.read_text() == "precious"


@pytest.mark.parametrize("there", ["nothing", "empty folder", "older drawing"])
def test_the_folder_of_a_faster_process_is_kept(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    root = tmp_path / "shared"
    if there != "nothing":
        root.mkdir()
    if there == "older drawing":
        (root / STAMP_FILE).write_text("{}")

    def draw(draft: Path, stamp: dict[str, int]) -> None:
        shutil.copytree(drawn, draft)
        shutil.copytree(drawn, root, dirs_exist_ok=True)
        (root / "first").touch()

    monkeypatch.setattr(folder, "_draw", draw)
    write_portraits(root, people=1, seed=0)
    assert (root / "first").exists()
    assert list(tmp_path.iterdir()) == [root]


def test_an_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(draft: Path, stamp: dict[str, int]) -> None:
        (draft / "train").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "_draw", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_portraits(tmp_path / "drawn", people=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("people", "seed", "match"), [(0, 0, "people .* 0"), (-3, 0, "-3"), (1, -1, "seed")])
def test_numbers_out_of_range_are_errors(tmp_path: Path, people: int, seed: int, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        write_portraits(tmp_path / "drawn", people=people, seed=seed)


@pytest.fixture(scope="module")
def drawn_by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_portraits(tmp_path_factory.mktemp("portraits") / "pair", people=2, seed=0)


@pytest.mark.parametrize("program", [sys.executable, "false"])
def test_several_processes_draw_the_same_even_if_one_fails(
    drawn_by_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    started: list[str] = []
    popen = subprocess.Popen

    def record(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        started.append(command[0])
        return popen(command, **options)

    monkeypatch.setattr(folder, "PEOPLE_PER_PROCESS", 1)
    monkeypatch.setattr(folder, "share_of_cores", lambda: 2)
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(subprocess, "Popen", record)
    assert contents(write_portraits(tmp_path / "several", people=2, seed=0)) == contents(drawn_by_one)
    assert started == [program]
