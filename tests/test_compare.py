"""The leaderboard as people ask for it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mask_lightning import compare
from mask_lightning.cli.command import run_command
from mask_lightning.inference.prediction_file import read_predictions, write_predictions
from mask_lightning.metrics import scores
from mask_lightning.metrics.bootstrap import compare as compare_predictions
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


def test_runs_are_ranked_with_the_options_that_differ(knock, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # on narrow terminals some columns are left out
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
        (["paired=seed"], "paired=seed needs a baseline, found null; set baseline"),
        (["baseline=quick"], "baseline is for paired=seed, found paired=null"),
        (["paired=seed", "baseline=nobody"], "expected runs of the baseline 'nobody', found"),
        (["run=outputs"], "there is no option run; did you mean runs"),
    ],
)
def test_a_mistake_is_one_line(knock, runs: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = knock(*arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_one_run_is_called_a_run(knock, runs: Path) -> None:
    assert "1 run below outputs/runs/a" in knock("runs=outputs/runs/a")[1]


@pytest.mark.parametrize("columns", [80, 100])
def test_the_table_fits_the_terminal(knock, runs: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = knock()[1]
    assert max(map(len, out.splitlines())) <= columns
    assert "outputs/runs/b" in out
    assert "left out, as the terminal has 80 columns: parameters, photos_per_second" in out or columns == 100


@pytest.fixture
def pairs(tmp_path: Path, make_labelled) -> Path:
    """Runs of two configurations and two seeds; the first seed's are evaluated."""
    people = [f"p{i // 3}" for i in range(60)]
    targets = {"age": np.arange(60) % 3}
    for name, overrides, seed in (("a", [], 0), ("b", ["mix=cutmix"], 0), ("c", [], 1), ("d", ["mix=cutmix"], 1)):
        predictions = make_labelled(people, targets, seed=len(name) * ord(name))
        f1 = scores.score(predictions)["age"].f1
        folder = RunFolder(tmp_path / "outputs" / "runs" / name)
        result = RunResult("finished", "val/f1", overrides=["experiment=quick", *overrides], best={"val/f1": f1})
        folder.claim({"seed": seed, "mix": {"name": overrides}}, result)
        folder.split.write_text("photo,bytes,role\nb.jpg,2,val\n")
        if seed == 0:
            place = tmp_path / "outputs" / "evaluations" / name
            place.mkdir(parents=True)
            write_predictions(place / "predictions.parquet", predictions)
            about = {"data": {"held_out": True}, "network": {"run": f"outputs/runs/{name}", "tta": "none"}}
            (place / "evaluation.json").write_text(json.dumps(about))
    return tmp_path / "outputs"


def test_configurations_are_compared_over_seeds(knock, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = knock("paired=seed", "baseline=quick", "out=outputs")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "val/f1: difference from quick, paired by seed" in out
    assert "note: no interval over people for quick mix=cutmix: there are no stored predictions of" in err
    assert "mask_lightning.evaluate ckpt=outputs/runs/d" in err
    record = json.loads((pairs / "compare.json").read_text())
    (found,) = record["differences"]
    wins = sum(each["score"] > each["baseline"] for each in found["seeds"])
    assert (found["wins"], len(found["seeds"]), found["people"]) == (wins, 2, None)
    table = pd.read_csv(pairs / "compare.csv")
    assert table["configuration"].tolist() == ["quick", "quick mix=cutmix"]
    assert table["difference"].tolist() == [pytest.approx(np.nan, nan_ok=True), pytest.approx(found["difference"])]


def test_stored_predictions_give_intervals_over_people(knock, pairs: Path) -> None:
    code, out, err = knock("runs=[outputs/runs/a,outputs/runs/b]", "paired=seed", "baseline=quick", "out=table.csv")
    assert (code, err) == (0, "")
    assert "people 95 %" in out
    (found,) = json.loads(Path("table.json").read_text())["differences"]
    stored = [read_predictions(pairs / "evaluations" / name) for name in ("b", "a")]
    want = compare_predictions(*stored)["age"]["f1"]  # one pair: as for two runs
    assert found["people"] == {"difference": pytest.approx(want.value), "low": want.low, "high": want.high}
    assert found["difference"] == pytest.approx(want.value)
