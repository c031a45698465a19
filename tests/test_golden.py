"""Runs of version 0.1.0, kept in tests/golden, resume, predict, vote and compare with the results of 0.1.0.

Commands are typed as users type them. The tolerances allow for other processors and versions of torch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from golden_runs import run_command, unpack

from mask_lightning.engine.modules import MultiTaskModule, SingleTaskModule

QUIET = ("num_workers=0", "accelerator=cpu", "progress=false")
PROBABILITY = 1e-5
PROSE = {"limits", "remarks"}  # keys of sentences, whose wording is free
TRAINED = 1e-4  # of weights and losses after up to 20 steps; another order of the photos changes them by 1e-2


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Draw no figures, and put the environment and the root logger back, which a command configures."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    root = logging.getLogger()
    before = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before[0]):
        handler.close()
    root.handlers, root.level = before


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory of the test: the photos and the archives that the mark `archives` names."""
    for kind in ("photos", *request.param):
        unpack(kind, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the photos, `finished` and `variants`, shared by tests that only add files."""
    folder = tmp_path_factory.mktemp("variants")
    for kind in ("photos", "finished", "variants"):
        unpack(kind, folder)
    return folder


def archives(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", [kinds], indirect=True, ids=["+".join(kinds)])


def assert_alike(found: Any, expected: Any, tolerance: float, at: str = "") -> None:
    """Compare nested values, floats and tensors up to the tolerance; `found` may have more keys."""
    if isinstance(expected, dict):
        assert expected.keys() <= found.keys(), at
        for key, value in expected.items():
            if key in PROSE:
                assert bool(found[key]) == bool(value), f"{at}/{key}"
                continue
            assert_alike(found[key], value, tolerance, f"{at}/{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), at
        for i, value in enumerate(expected):
            assert_alike(found[i], value, tolerance, f"{at}/{i}")
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, msg=lambda text: f"{at}: {text}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance, nan_ok=True), at
    else:
        assert relative(found) == relative(expected), at


def relative(value: Any) -> Any:
    """Shorten a photo's absolute path to start at photos/, since the archives were made in another folder."""
    return value[value.rindex("photos/") :] if isinstance(value, str) and "/photos/" in value else value


def assert_same_json(found: Path, expected: Path) -> None:
    assert_alike(json.loads(found.read_text()), json.loads(expected.read_text()), PROBABILITY)


def assert_same_table(found: Path, expected: Path, *, tolerance: float = PROBABILITY) -> None:
    """Compare columns and rows, numbers up to the tolerance, and a parquet file's record of its networks."""
    read = pd.read_parquet if expected.suffix == ".parquet" else pd.read_csv
    tables = [read(path).map(relative) for path in (found, expected)]
    pd.testing.assert_frame_equal(*tables, rtol=tolerance, atol=tolerance)
    if expected.suffix == ".parquet":
        about = [json.loads(pq.read_schema(path).metadata[b"mask_lightning"]) for path in (found, expected)]
        del about[1]["version"]
        assert_alike(*about, tolerance)  # type: ignore[call-arg]


def assert_same_files(found: Path, expected: Path) -> None:
    """Compare every file of the folder `expected` with its namesake in `found`."""
    names = sorted(path.name for path in expected.iterdir())
    assert "predictions.parquet" in names
    for name in names:
        if name.endswith(".json"):
            assert_same_json(found / name, expected / name)
        else:
            digits = 2e-4 if name in ("predictions.csv", "suspects.csv") else PROBABILITY  # these have four
            assert_same_table(found / name, expected / name, tolerance=digits)


@archives("finished", "interrupted", "sweep", "folds", "ensemble")
def test_every_checkpoint_rebuilds_its_module(place: Path, variants: Path) -> None:
    checkpoints = [*place.rglob("*.ckpt"), *(variants / "outputs" / "runs").rglob("*.ckpt")]
    assert len(checkpoints) == 2 + 5 + 2 + 2 + 3 + 2 + 11
    for path in checkpoints:
        content = torch.load(path, weights_only=True)
        kind = SingleTaskModule if len(content["hyper_parameters"]["tasks"]) == 1 else MultiTaskModule
        module = kind.load_from_checkpoint(path, weights_only=True, map_location="cpu")
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, content["state_dict"][name].to(tensor.dtype)), (path, name)


@archives("interrupted")
@pytest.mark.parametrize("name", ["plain", "ranger"])
def test_an_interrupted_run_ends_as_the_whole_one(place: Path, name: str) -> None:
    cut, whole = Path("outputs/runs", name), Path("outputs/runs", f"{name}_whole")
    records = [json.loads((folder / "result.json").read_text()) for folder in (cut, whole)]
    assert [record["status"] for record in records] == ["interrupted", "finished"]
    assert run_command("train", f"resume={cut}") == 0
    record = json.loads((cut / "result.json").read_text())
    for key in ("status", "monitor", "best", "best_epoch", "last", "weights", "parameters", "data", "config_hash"):
        assert_alike(record[key], records[1][key], TRAINED, key)
    assert_same_table(cut / "metrics.csv", whole / "metrics.csv", tolerance=TRAINED)
    found, expected = (torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (cut, whole))
    for part in ("epoch", "global_step", "state_dict", "current_model_state", "sums_of_the_epoch"):
        assert (part in found) == (part in expected), part
        assert_alike(found.get(part), expected.get(part), TRAINED, part)
    states = [content["optimizer_states"][0]["state"] for content in (found, expected)]
    assert_alike(*states, TRAINED, "optimizer")  # type: ignore[call-arg]


@archives("finished")
def test_a_finished_run_is_not_resumed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("train", "resume=outputs/runs/finished") == 2
    assert "outputs/runs/finished is finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        "finished",  # with the temperatures that `evaluate` kept beside its checkpoint
        "regression",
        "ordinal",
        "classes_and_regression",
        "cross_stitch",
        "attention",
        "separate",
        "ema",
        "uncertainty",
        "dwa",
        "ranger",
        "gender",
    ],
)
def test_predictions_are_equal(variants: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(variants)
    submission = ["submission=false"] if name == "gender" else []
    assert (
        run_command(
            "predict",
            f"ckpt=outputs/runs/{name}",
            "data.root=photos/eval",
            *QUIET,
            *submission,
            f"hydra.run.dir=outputs/again/{name}",
        )
        == 0
    )
    assert_same_files(Path("outputs/again", name), Path("outputs/predictions", name))


def test_answers_are_blended_and_checked(
    variants: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(variants)
    files = [Path("outputs/predictions", name) for name in ("ema", "dwa")]
    names = ",".join(map(str, files))
    assert run_command("blend", f"files=[{names}]", "kind=mean", "hydra.run.dir=outputs/blend") == 0
    tables = [pd.read_parquet(path / "predictions.parquet") for path in (Path("outputs/blend"), *files)]
    probs = [column for column in tables[0] if str(column).startswith("probs/")]
    assert len(probs) == 8
    blended, *parts = (table[probs].to_numpy() for table in tables)
    np.testing.assert_allclose(blended, np.mean(parts, axis=0), atol=1e-6)
    capsys.readouterr()
    assert run_command("check_submission", "file=outputs/predictions/finished", "data.root=photos/eval") == 0


@archives("finished")
def test_the_evaluation_is_equal(place: Path) -> None:
    kept = Path("outputs/runs/finished/checkpoints/calibration.json")
    before = kept.rename(place / "before.json")
    command = ("ckpt=outputs/runs/finished", "calibrate=true", *QUIET, "hydra.run.dir=outputs/again")
    assert run_command("evaluate", *command) == 0
    assert_same_files(Path("outputs/again"), Path("outputs/evaluations/finished"))
    assert_same_json(kept, before)


@archives("ensemble")
def test_the_vote_is_equal(place: Path) -> None:
    options = ("runs=outputs/sweeps/age", "data.root=photos/eval", "allow_missing=true", "submission=false", *QUIET)
    assert run_command("vote", *options, "hydra.run.dir=outputs/again") == 0
    again, remarks = without_greedy_scores(Path("outputs/again/vote.json"))
    _, before = without_greedy_scores(Path("outputs/votes/age/vote.json"))
    assert remarks[:-1] == before
    assert "cross-fitted" in remarks[-1]
    assert again["soups"]["soup_age_greedy.ckpt"]  # compared below: the same members
    assert_same_files(Path("outputs/again"), Path("outputs/votes/age"))


def without_greedy_scores(file: Path) -> tuple[dict, list[str]]:
    """Remove the scores of greedy soups, which 0.1.0 scored on the people on whom it chose them, and the remarks."""
    record = json.loads(file.read_text())
    remarks, record["remarks"] = record["remarks"], []
    for name in ("scores", "gains"):
        record["held_out"][name] = [each for each in record["held_out"][name] if each["name"] != "greedy soup"]
    file.write_text(json.dumps(record))
    return record["held_out"], remarks


@archives("folds")
def test_the_label_issues_are_equal(place: Path) -> None:
    assert run_command("suspects", "runs=outputs/sweeps/folds", *QUIET, "hydra.run.dir=outputs/again") == 0
    assert_same_files(Path("outputs/again"), Path("outputs/suspects/folds"))


@archives("sweep")
def test_the_comparison_is_equal(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("compare", "runs=outputs/sweeps/seeds", "out=again.csv") == 0
    assert Path("again.csv").read_text() == Path("outputs/compare.csv").read_text()
    assert "warning" not in capsys.readouterr().err


@archives("finished", "interrupted", "sweep", "folds", "ensemble")
def test_every_run_is_compared(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("compare", "runs=outputs", "out=again.csv") == 0
    table = pd.read_csv("again.csv")
    assert table["status"].value_counts().to_dict() == {"finished": 10, "interrupted": 2}
    assert "warning" not in capsys.readouterr().err


@archives("sweep")
def test_the_same_sweep_again_trains_nothing(place: Path) -> None:
    """Skip both jobs: their config hash is unchanged. A new option changes every hash: then drop this test."""
    typed = json.loads(Path("outputs/sweeps/seeds/jobs/0.json").read_text())["overrides"]
    overrides = [override for override in typed if not override.startswith("seed=")]
    assert run_command("train", "-m", *overrides, "seed=0,1", "hydra.sweep.dir=outputs/sweeps/again") == 0
    again, before = (pd.read_csv(f"outputs/sweeps/{name}/summary.csv") for name in ("again", "seeds"))
    assert again["action"].tolist() == ["skipped", "skipped"]
    pd.testing.assert_frame_equal(again.drop(columns="action"), before.drop(columns="action"))
    assert not list(Path("outputs/sweeps/again").rglob("*.ckpt"))
