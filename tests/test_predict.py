"""The doors after training: help, mistakes and folders, as a person meets them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest

from mask_lightning.cli.command import run_command

Door = Callable[..., tuple[int, str, str]]  # -> exit code, stdout, stderr


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], handlers: None) -> Door:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def knock(name: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        main = importlib.import_module(f"mask_lightning.{name}").main
        with pytest.raises(SystemExit) as left:
            run_command(name, get_type_hints(main)["settings"], main)
        assert isinstance(left.value.code, int)
        return left.value.code, *capsys.readouterr()

    return knock


@pytest.mark.parametrize("name", ["predict", "check_submission", "blend", "evaluate", "suspects", "vote"])
def test_help_names_the_command(door: Door, name: str) -> None:
    code, shown, _ = door(name, "--help")
    assert code == 0
    assert f"python -m mask_lightning.{name} " in shown


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("predict", [], "ckpt is not set"),
        ("predict", ["ckpt=run"], "data.root is not set"),
        ("predict", ["ckpt=run", "data.rot=x"], "did you mean data.root"),
        ("predict", ["ckpt=run", "data.root=nowhere"], "expected photos at nowhere, found nothing"),
        ("predict", ["ckpt=run", "data.root=."], "expected photos in ., found none"),
        ("evaluate", [], "ckpt is not set"),
        ("report", [], "ckpt is not set"),
        ("report", ["ckpt=run"], "expected a run's folder or a .ckpt at run, found nothing"),
        ("report", ["ckpt=run", "data=table"], "data=table needs data.table"),
        ("evaluate", ["ckpt=run"], "expected a run's folder or a .ckpt at run, found nothing"),
        ("evaluate", ["ckpt=run", "calibrat=true"], "did you mean calibrate"),
        ("evaluate", ["ckpt=run", "tta=mirror"], "tta must be 'none', 'flip', 'randaugment' or 'blend'"),
        ("blend", ["files=[a.csv,b.csv]"], "expected a submission at a.csv, found none"),
        ("blend", ["files=[a,b]", "kind=mean"], "expected predictions at a, found none"),
        ("check_submission", ["file=a.csv"], "expected a submission at a.csv, found none"),
        ("vote", [], "runs is not set"),
        ("vote", ["runs=nowhere"], "expected runs at nowhere, found nothing"),
        ("vote", ["runs=."], "expected finished runs below ., found none"),
        ("vote", ["runs=.", "kind=loud"], "kind must be 'hard', 'soft' or 'weighted'"),
        ("suspects", [], "expected runs or predictions, found neither; set runs=SWEEP"),
        ("suspects", ["runs=a", "predictions=b"], "expected runs or predictions, found both"),
        ("suspects", ["runs=a"], "expected a folder with runs at a, found none"),
        ("suspects", ["predictions=b"], "expected predictions at b, found none"),
        ("suspects", ["predictions=b", "share=0"], "share must be greater than 0, got 0"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    door: Door, tmp_path: Path, name: str, arguments: list[str], says: str
) -> None:
    code, _, error = door(name, *arguments)
    assert code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert says in error
    assert tmp_path.is_dir()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_every_missing_photo_is_listed(door: Door, tmp_path: Path) -> None:
    (tmp_path / "info.csv").write_text("ImageID,ans\n" + "".join(f"{i}.jpg,0\n" for i in range(20)))
    code, _, error = door("predict", "ckpt=run", "data.root=info.csv")
    assert code == 2
    assert "names 20 of 20 photos that are not in images" in error
    for i in range(20):
        assert f"  {i}.jpg\n" in error
    (log,) = (tmp_path / "outputs" / "predictions").glob("*/predict.log")
    assert "19.jpg" in log.read_text()
