"""The command `audit`: exit codes, files and messages."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import pytest
from PIL import Image

from mask_lightning import audit
from mask_lightning.cli.command import ExitCode, run_command
from mask_lightning.settings.evaluation import AuditSettings

Command = Callable[..., tuple[int, str, str]]
QUICK = ("data.crop_height=64", "data.crop_width=48", "people_shown=1")  # the crop of the fixture's small photos


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], handlers: None
) -> Command:
    """Call the command in an empty folder and return exit code, stdout and stderr."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["audit", *arguments, *QUICK])
        with pytest.raises(SystemExit) as left:
            run_command("audit", AuditSettings, audit.main)
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, captured.out, captured.err

    return run


@pytest.fixture
def photos(competition: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(competition, tmp_path / "photos"))


def record(folder: Path = Path()) -> dict:
    (path,) = folder.glob("outputs/audits/*/audit.json")
    return dict(json.loads(path.read_text()))


@pytest.mark.usefixtures("rendered")
def test_good_photos_exit_with_0_and_leave_a_record_and_pictures(command: Command, competition: Path) -> None:
    code, out, err = command(f"data.root={competition}")
    assert (code, err) == (0, "")
    assert "168 photos of 23 people" in out
    assert "training can start" in out
    assert (record()["photos"], record()["training_would_fail"]) == (168, False)
    for picture in ("classes", "contact_sheet"):
        (path,) = Path().glob(f"outputs/audits/*/{picture}.png")
        height, width, _ = matplotlib.image.imread(path).shape
        assert min(height, width) > 300


def spoil_a_photo(images: Path) -> None:
    next(images.glob("000001_*/normal.*")).write_bytes(b"no photo")


def spoil_a_name(images: Path) -> None:
    next(images.glob("000001_*")).rename(images / "000001_woman_Asian_18")


def drop_a_class(images: Path) -> None:
    for photo in images.glob("*/normal.*"):
        photo.unlink()


@pytest.mark.parametrize(
    ("spoil", "options", "says"),
    [
        (spoil_a_photo, [], "photos that cannot be decoded: 1"),
        (spoil_a_name, [], "names that do not parse: 1"),
        (drop_a_class, [], "classes without photos: 1"),
        (lambda images: None, ["data.val_fraction=0.97"], "people cannot be split: 1"),
    ],
)
def test_photos_that_training_refuses_exit_with_1(
    command: Command, photos: Path, spoil: Callable[[Path], None], options: list[str], says: str
) -> None:
    (photos / "train" / "train.csv").unlink()
    spoil(photos / "train" / "images")
    code, out, _ = command(f"data.root={photos}", *options)
    assert code == 1
    assert says in out
    assert "training would fail" in out
    assert record()["training_would_fail"]


def test_a_class_that_is_not_trained_may_be_absent(command: Command, photos: Path) -> None:
    drop_a_class(photos / "train" / "images")
    code, out, _ = command(f"data.root={photos}", "task=age")
    assert code == 0
    assert "lacks normal" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["data.root=nowhere"], "found no such folder"),
        (["near_bits=99"], "near_bits must be less than or equal to 64, got 99"),
        (["near_bit=3"], "there is no option near_bit; did you mean near_bits?"),
        (["data=competition"], "data=competition needs data.root"),
    ],
)
def test_misuse_exits_with_2_and_one_line(command: Command, arguments: list[str], says: str) -> None:
    code, out, err = command(*arguments)
    assert code == 2
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    assert not list(Path().glob("outputs/audits/*"))


def test_corrections_are_audited_as_they_will_be_trained(command: Command, competition: Path) -> None:
    Path("corrections.csv").write_text("person_id,field,value\n000022,age,60\n")
    code, out, _ = command(f"data.root={competition}", "data.corrections=corrections.csv")
    assert code == 0
    assert record()["tasks"]["age"][">=60"]["people"] == 5
    assert "two labels" not in out


def test_without_a_root_the_drawn_portraits_are_audited(command: Command) -> None:
    code, out, _ = command("data.portraits=2", "task=mask", "data.val_fraction=0")
    assert code == 0
    assert "14 drawn portraits of 2 people" in out
    assert record()["root"] == "outputs/data/portraits-2"


def test_nothing_is_written_beside_the_photos(command: Command, photos: Path) -> None:
    before = sorted(photos.rglob("*"))
    command(f"data.root={photos}")
    assert sorted(photos.rglob("*")) == before


def test_brackets_in_names_are_no_markup(command: Command, competition: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(competition, tmp_path / "[red]photos"))
    images = root / "train" / "images"
    Image.new("RGB", (9, 9)).save(next(images.glob("000001_*")) / "[bold]x.png")
    code, out, _ = command(f"data.root='{root}'")
    assert code == 1
    assert "[bold]x.png" in out
    assert "[red]photos" in out.replace("\n", "")  # a long path is wrapped


def test_a_command_ends_with_the_code_that_main_returns(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "main", lambda settings, job: ExitCode(3))
    assert command()[0] == 3
    monkeypatch.setattr(audit, "main", lambda settings, job: ExitCode(settings.seed % 5))
    code, _, err = command("-m", "seed=1,4,2")
    assert (code, err) == (4, "")
    monkeypatch.setattr(audit, "main", lambda settings, job: 7.0)  # a score, not a code
    assert command()[0] == 0
