"""Range tests of a tiny network: what they leave, and that a run with `optim.lr=auto` is one with that lr."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_runs import TINY_RUN, interrupt, settings_for

from mask_lightning.cli.command import run_command
from mask_lightning.errors import NoSuggestionError
from mask_lightning.pipelines import find_lr as range_test_runs
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.prepare import prepare_run
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.train import TrainSettings

TINY = (
    *TINY_RUN,
    "data.batch_size=16",
    "data.clean_train_photos=28",
    "data.limit_people=10",
    "task=mask",
    "augment=none",
)
PHASES = ("finetune.phases.0.unfreeze.last=2", "finetune.frozen_epochs=1", "finetune.epochs=1")
SHORT = ("range_test.num_steps=30", "range_test.start_lr=1e-5")

Compose = Callable[..., TrainSettings]


@pytest.fixture
def options(competition: Path, tmp_path: Path) -> tuple[str, ...]:
    return (*TINY, *PHASES, *SHORT, f"data.root={competition}", f"outputs={tmp_path}")


@pytest.fixture
def compose(options: tuple[str, ...]) -> Compose:
    return partial(settings_for, "train", TrainSettings, *options)


def last_of(folder: RunFolder) -> dict[str, torch.Tensor]:
    return torch.load(folder.last, weights_only=True)["state_dict"]


def test_auto_is_a_run_with_the_lr_that_was_found(compose: Compose, tmp_path: Path, monkeypatch) -> None:
    auto, given, cut = (RunFolder(tmp_path / name) for name in ("auto", "given", "cut"))
    result = runs.train_run(compose("optim.lr=auto"), auto.path)
    assert result.lr is not None
    assert 1e-5 < result.lr < 10
    assert json.loads((auto.path / "lr_range_test.json").read_text())["lr"] == result.lr
    assert auto.read_config()["optim"]["lr"] == "auto"
    with monkeypatch.context() as patch:
        patch.setattr(runs, "choose_lr", lambda *_: result.lr)
        interrupt(patch, 9, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            runs.train_run(compose("optim.lr=auto"), cut.path)
    monkeypatch.setattr(runs, "choose_lr", lambda *_: pytest.fail("tested again"))
    assert runs.resume_run(cut.path).lr == result.lr
    runs.train_run(compose(f"optim.lr={result.lr!r}"), given.path)
    history, expected = pd.read_csv(given.metrics), last_of(given)
    for run in (auto, cut):
        pd.testing.assert_frame_equal(pd.read_csv(run.metrics), history, check_exact=True)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in last_of(run).items())
    left, own = ({str(path.relative_to(run.path)) for path in run.path.rglob("*")} for run in (auto, given))
    assert left - own == {"lr_range_test.png", "lr_range_test.csv", "lr_range_test.json"}


@pytest.mark.usefixtures("rendered")
def test_without_a_suggestion_nothing_is_trained(compose: Compose, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(NoSuggestionError, match=r"flat: .*set the lr by hand"):
        runs.train_run(compose("optim.lr=auto", "range_test.start_lr=1e-9", "range_test.end_lr=1e-8"), folder.path)
    result = folder.read_result()
    assert result.status == "failed"
    assert "flat" in str(result.error)
    assert (folder.path / "lr_range_test.png").is_file()
    assert json.loads((folder.path / "lr_range_test.json").read_text())["suggestions"] is None
    assert not folder.last.exists()


@pytest.mark.usefixtures("no_figures")
def test_why_there_is_no_cache_is_told_once(compose: Compose, tmp_path: Path, monkeypatch, caplog) -> None:
    (tmp_path / "file").touch()
    settings = compose(f"data.cache_dir={tmp_path / 'file' / 'cache'}", "optim.lr=auto", "trainer.max_batches=2")
    for job in (range_test_runs.find_lr, runs.train_run):
        caplog.clear()
        job(settings, tmp_path / job.__name__)
        assert caplog.text.count("going on without it") == 1


def test_ctrl_c_during_the_sweep_is_an_interrupted_run(compose: Compose, tmp_path: Path, monkeypatch, capsys) -> None:
    interrupt(monkeypatch, 5, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        runs.train_run(compose("optim.lr=auto"), tmp_path / "run")
    assert RunFolder(tmp_path / "run").read_result().status == "interrupted"
    assert "start the run again" in capsys.readouterr().err


@pytest.mark.parametrize(("phase", "scale"), [(1, 1.0), (2, 0.2)])
def test_a_phase_is_tested_as_it_will_be_trained(compose: Compose, tmp_path: Path, phase: int, scale: float) -> None:
    settings = compose(f"range_test.phase={phase}", "range_test.suggestion=steep")
    run = prepare_run(settings)
    module = run.build_pretrained_module()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    planned = dict(module.hparams["optim"]), list(module.phases)
    opened: list[set[str]] = []
    for name, parameters in module.layer_groups().items():
        parameter = next(iter(parameters.values()))
        parameter.register_hook(lambda grad, name=name: opened.append({name}))
    lr = range_test_runs.choose_lr(run, tmp_path / "test", module)
    record = json.loads((tmp_path / "test" / "lr_range_test.json").read_text())
    assert record["lr"] == lr
    assert lr * scale == pytest.approx(record["suggestions"]["steep"])
    assert (record["phase"], record["lr_scale"]) == (phase, scale)
    curve = pd.read_csv(tmp_path / "test" / "lr_range_test.csv")
    assert np.isclose(curve["lr"], record["suggestions"]["steep"]).sum() == 1
    assert set.union(*opened) == ({"block3", "block4", "heads"} if phase == 1 else set(module.layer_groups()))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert (dict(module.hparams["optim"]), list(module.phases)) == planned


def test_inspect_says_that_the_lr_is_still_to_be_found(compose: Compose, capsys) -> None:
    runs.inspect_run(compose("optim.lr=auto"))
    assert "lr auto (LR range test before training" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def find_lr(options: tuple[str, ...], tmp_path: Path, monkeypatch, capsys, handlers):
    """Call the command in an empty folder and return exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def call(*overrides: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["find_lr", *overrides])
        with pytest.raises(SystemExit) as left:
            run_command("find_lr", TrainSettings, importlib.import_module("mask_lightning.find_lr").main)
        assert isinstance(left.value.code, int)
        return left.value.code, capsys.readouterr().err

    return call


def test_the_next_command_trains_with_the_lr(find_lr, options: tuple[str, ...], tmp_path: Path) -> None:
    code, shown = find_lr(*options)
    assert code == 0, shown
    (folder,) = (tmp_path / "lr_range_tests").iterdir()
    assert {path.name for path in folder.iterdir()} - {"find_lr.log"} == {
        f"lr_range_test.{suffix}" for suffix in ("png", "csv", "json")
    }
    (line,) = (line for line in shown.splitlines() if line.startswith("next:"))
    command = shlex.split(line.removeprefix("next:"))
    assert command[:3] == ["python", "-m", "mask_lightning.train"]
    assert set(command[3:-1]) == {option for option in options if not option.startswith("range_test.")}
    lr = json.loads((folder / "lr_range_test.json").read_text())["lr"]
    assert command[-1] == f"optim.lr={lr:.2e}"
    for name in ("valley", "steep", "slide", "minimum"):
        assert name in shown


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["range_test.num_steps=9"], "range_test.num_steps must be greater than or equal to 10, got 9"),
        (["range_test.start_lr=10"], "range_test.end_lr must be greater than range_test.start_lr, got 10 and 10"),
        (["range_test.phase=3"], "must be one of the 2 of finetune.phases, got 3"),
        (["range_test.suggestion=valey"], "range_test.suggestion must be 'valley', 'steep', 'slide' or 'minimum'"),
        (["resume=outputs/runs/RUN"], "found resume=outputs/runs/RUN; leave it out"),
        (["data.rot=x"], "did you mean data.root"),
    ],
)
def test_a_mistake_is_one_line(find_lr, tmp_path: Path, overrides: list[str], says: str) -> None:
    code, shown = find_lr(f"outputs={tmp_path}", *overrides)
    assert code == 2
    assert says in shown
    assert shown.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
