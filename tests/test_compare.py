"""The leaderboard as people ask for it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from mask_lightning import compare
from mask_lightning.cli.command import run_command
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.settings.evaluation import CompareSettings


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Hydra configures the root logger of the process that it runs in."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    yield
    root.handlers, root.level = before


@pytest.fixture
def knock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def knock(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["compare", *arguments])
        with pytest.raises(SystemExit) as left:
            run_command("compare", CompareSettings, compare.main)
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return knock


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, lr, score in (("a", 0.1, 0.4), ("b", 0.01, 0.6)):
        result = RunResult("finished", "val/f1", best={"val/f1": score}, last={"val/f1": score}, parameters=2_000_000)
        RunFolder(tmp_path / "outputs" / "runs" / name).claim(
            {"seed": 0, "optim": {"lr": lr}, "tasks": ["mask", name]}, result
        )
    return tmp_path / "outputs"


def test_runs_are_ranked_with_the_options_that_differ(knock, runs: Path) -> None:
    code, out, err = knock()
    assert (code, err) == (0, "")
    assert out.index("outputs/runs/b") < out.index("outputs/runs/a")
    assert "optim.lr" in out
    assert "seed" not in out
    assert "2.00 M" in out
    assert "[mask, a]" in out


@pytest.mark.parametrize(("out", "written"), [("table.csv", "table.csv"), (".", "compare.csv")])
def test_the_table_is_written_on_request(knock, runs: Path, tmp_path: Path, out: str, written: str) -> None:
    assert knock(f"out={out}")[0] == 0
    table = pd.read_csv(tmp_path / written)
    assert table["score"].tolist() == [0.6, 0.4]
    assert table["optim.lr"].tolist() == [0.01, 0.1]
    assert table["folder"].tolist() == ["outputs/runs/b", "outputs/runs/a"]


def test_nothing_else_is_written(knock, runs: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert knock("runs=[outputs/runs/a,outputs/runs/b]")[0] == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unreadable_record_is_named_and_the_others_are_shown(knock, runs: Path) -> None:
    (runs / "runs" / "a" / "result.json").write_text("{")
    code, out, err = knock()
    assert code == 0
    assert err.count("\n") == 1
    assert err.startswith("warning: cannot read a run's record at outputs/runs/a/result.json")
    assert "outputs/runs/b" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs=nowhere"], "expected a folder with runs at nowhere, found none"),
        (["runs=empty"], "expected runs below empty, found none; train one first"),
        (["runs=[]"], "runs must be a list with at least 1 item"),
        (["out=nowhere/table.csv"], "cannot write nowhere/table.csv (No such file or directory)"),
        (["run=outputs"], "there is no option run; did you mean runs"),
    ],
)
def test_a_mistake_is_one_line(knock, runs: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = knock(*arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
