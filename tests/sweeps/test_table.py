"""Table of runs and jobs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest

from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.sweeps.records import JobRecord
from mask_lightning.sweeps.table import (
    Row,
    best_first,
    collect_jobs,
    collect_runs,
    differing_options,
    to_frame,
    varied_overrides,
    warn_of_means,
)


def run(path: Path, score: float | None = 0.5, *, status: str = "finished", error: str | None = None, **config) -> Path:
    best = {} if score is None else {"val/f1": score, "val/age/f1": score + 0.1, "val/age/loss": 1.0, "train/f1": 0.9}
    last = {} if score is None else {"val/f1": score - 0.1}
    result = RunResult(
        status,  # type: ignore[arg-type]
        "val/f1",
        best=best,
        last=last,
        seconds=60.0,
        photos_per_second=9.5,
        parameters=1000,
        error=error,
    )
    RunFolder(path).claim({"seed": 0, "data": {"split_seed": 0}, "outputs": "outputs", **config}, result)
    return path


def job(sweep: Path, number: int, *overrides: str, **fields) -> None:
    record = JobRecord(number, list(overrides), fields.pop("folder", str(number)), **fields)
    (sweep / "jobs").mkdir(parents=True, exist_ok=True)
    (sweep / "jobs" / f"{number}.json").write_text(json.dumps(asdict(record)))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Six jobs: finished, failed before and during training, skipped, killed, and not started."""
    sweep, before = tmp_path / "sweeps" / "second", tmp_path / "sweeps" / "first"
    run(before / "3", 0.7, seed=3)
    run(sweep / "0", 0.5, seed=0)
    run(sweep / "2", None, status="failed", error="OutOfMemoryError: full", seed=2)
    run(sweep / "4", None, status="running", seed=4)
    job(sweep, 0, "model=lite0", "seed=0", action="trained", done=True)
    job(sweep, 1, "model=lite0", "seed=-1", error="seed must be 0 or more")
    job(sweep, 2, "model=lite0", "seed=2", action="trained", error="OutOfMemoryError: full")
    job(sweep, 3, "model=lite0", "seed=3", action="skipped", folder="../first/3", done=True)
    job(sweep, 4, "model=lite0", "seed=4", action="trained")
    job(sweep, 10, "model=lite0", "seed=5")
    return sweep


def test_a_sweep_shows_every_job_with_its_error(sweep: Path) -> None:
    found = collect_jobs(sweep)
    assert found.unreadable == []
    frame = to_frame(found.rows, varied_overrides(found.rows))
    assert frame["job"].tolist() == [0, 1, 2, 3, 4, 10]
    assert frame["status"].tolist() == ["finished", "failed", "failed", "finished", "interrupted", "interrupted"]
    assert frame["action"].fillna("").tolist() == ["trained", "", "trained", "skipped", "trained", ""]
    assert frame["seed"].tolist() == ["0", "-1", "2", "3", "4", "5"]
    assert "model" not in frame
    assert frame["score"].tolist()[::3] == [0.5, 0.7]
    assert frame["last"].tolist()[0] == pytest.approx(0.4)
    assert frame["age_f1"].tolist()[3] == pytest.approx(0.8)
    assert frame["error"].tolist()[1:3] == ["seed must be 0 or more", "OutOfMemoryError: full"]
    assert frame["folder"].tolist()[3] == str(sweep.parent / "first" / "3")
    assert not {"monitor", "train_f1"} & set(frame)


def test_a_killed_run_is_interrupted_and_a_locked_one_is_running(tmp_path: Path) -> None:
    path = run(tmp_path / "run", None, status="running")
    assert [row.status for row in collect_runs([tmp_path]).rows] == ["interrupted"]
    with RunFolder(path).held():
        assert [row.status for row in collect_runs([tmp_path]).rows] == ["running"]


def test_runs_are_found_once_including_those_that_jobs_point_to(sweep: Path) -> None:
    rows = collect_runs([sweep]).rows
    assert sorted(row.folder.name for row in rows) == ["0", "1", "2", "3", "4"]
    assert len(collect_runs([sweep, sweep.parent]).rows) == 5


def test_a_job_that_fails_repeatedly_is_one_row(sweep: Path) -> None:
    third = sweep.parent / "third"
    job(third, 0, "model=lite0", "seed=-1", error="seed must be 0 or more")
    rows = collect_runs([sweep.parent]).rows
    assert [row.folder for row in rows if row.result is None] == [third / "0"]


def test_unreadable_records_are_named(sweep: Path) -> None:
    (sweep / "0" / "result.json").write_text("{")
    (sweep / "2" / "config.yaml").write_text("- no mapping")
    (sweep / "jobs" / "4.json").write_text("[]")
    (sweep / "jobs" / "7.json").write_text("{}")
    for collect in (lambda: collect_runs([sweep]), lambda: collect_jobs(sweep)):
        found = collect()
        named = "\n".join(found.unreadable)
        for path in ("0/result.json", "2/config.yaml", "jobs/4.json", "jobs/7.json"):
            assert path in named
    assert "seed=3" in [row.job.overrides[1] for row in collect_jobs(sweep).rows if row.job]


def row(score: float | None = 0.5, status: str = "finished", monitor: str = "val/f1", **options) -> Row:
    best = {} if score is None else {monitor: score}
    return Row(status, Path("run"), RunResult("finished", monitor, best=best), options)


@pytest.mark.parametrize(
    ("rows", "want"),
    [
        ([{"seed": 0}, {"seed": 1}], {"seed": ["0", "1"]}),
        ([{"seed": 0}, {"seed": 0}], {}),
        # An option that follows another is not shown.
        ([{"seed": 0, "data.split_seed": 0}, {"seed": 1, "data.split_seed": 1}], {"seed": ["0", "1"]}),
        ([{"outputs": "a", "skip_done": True}, {"outputs": "b", "skip_done": False}], {}),
        ([{"a": [1, None], "b": True}, {"a": [2], "b": False}], {"a": ["[1, null]", "[2]"], "b": ["true", "false"]}),
        ([{"seed": 0}, {"seed": 0, "optim.betas": 1}], {"optim.betas": [None, "1"]}),
    ],
)
def test_only_options_that_differ_are_shown(rows, want) -> None:
    table = differing_options([row(**options) for options in rows])
    assert table.to_dict("list") == want


def test_the_overrides_replace_the_config_of_a_job_without_a_run() -> None:
    early = Row("failed", Path("2"), options={"seed": 2, "model": "lite0"})
    table = differing_options([row(seed=0, flip=0.5), row(seed=1, flip=0.5), early])
    assert table.to_dict("list") == {"seed": ["0", "1", "2"]}


def test_the_best_comes_first_and_rows_without_a_score_last() -> None:
    assert best_first([row(0.3), row(None), row(0.9), row(math.nan), row(0.5)]) == [2, 4, 0, 1, 3]
    losses = [row(loss, monitor="val/loss") for loss in (2.0, 1.0)]
    assert best_first(losses) == [1, 0]


def test_the_monitor_is_shown_if_it_differs() -> None:
    rows = [row(), row(monitor="clean_train/f1")]
    assert to_frame(rows, differing_options(rows))["monitor"].tolist() == ["val/f1", "clean_train/f1"]


@pytest.mark.parametrize(
    ("score_of", "warned"),
    [
        (["joint", "joint"], False),
        (["mean of the tasks", "mean of the tasks"], False),
        (["age", "mask", "joint"], False),
        (["joint", "mean of the tasks", ""], True),
    ],
)
def test_scores_of_different_meaning_are_warned_of(score_of: list[str], warned: bool) -> None:
    results = [RunResult("finished", "val/f1", best={"val/f1": 0.5}, score_of=each) for each in score_of]
    warning = warn_of_means([Row("finished", Path("run"), each, {}) for each in results])
    assert (warning is not None) == warned
    if warning:
        assert "of 1 runs is of the combined class, that of 1 is the mean of the tasks" in warning
