"""A run on two devices equals a run on one: two CPU processes with gloo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_runs import TINY_RUN, settings_for

from mask_lightning.callbacks import interruption
from mask_lightning.engine import ddp
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ProcessError, Terminated
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.photos import find_photos
from mask_lightning.pipelines.prepare import PreparedRun, choose_transform
from mask_lightning.pipelines.repeated_fits import Data, fit_one_phase
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.train import TrainSettings

OPTIONS = (
    *TINY_RUN,
    "model.backbone=test_convnext",  # LayerNorm: a BatchNorm would see another batch in each process
    "data.batch_size=17",  # 9 photos and 8, then a smaller rest
    "data.clean_train_photos=29",
    "finetune=two_phase",
    "finetune.phases.0.unfreeze.last=1",
    "finetune.frozen_epochs=1",
    "finetune.epochs=1",
    "averaging=ema",
)


@pytest.fixture
def settings(competition: Path, tmp_path: Path):
    fixed = (*OPTIONS, f"data.root={competition}", f"outputs={tmp_path}")
    return partial(settings_for, "train", TrainSettings, *fixed)


@pytest.mark.slow
def test_two_processes_train_like_one(settings, tmp_path: Path) -> None:
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    runs.train_run(settings(), one.path)
    runs.train_run(settings("trainer.devices=2"), two.path)
    left = [sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*")) for run in (one, two)]
    assert left[0] == left[1]
    states = [torch.load(run.last, weights_only=True) for run in (one, two)]
    assert states[0]["global_step"] == states[1]["global_step"]
    for part in ("state_dict", "current_model_state"):
        for name, tensor in states[0][part].items():
            torch.testing.assert_close(states[1][part][name], tensor, rtol=1e-3, atol=2e-5, msg=f"{part} {name}")
    histories = [pd.read_csv(run.metrics) for run in (one, two)]
    assert list(histories[0]) == list(histories[1])
    for name in histories[0]:
        np.testing.assert_allclose(histories[1][name], histories[0][name], rtol=1e-3, atol=1e-5, err_msg=name)
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
def test_two_processes_end_together_and_resume_mid_epoch(
    settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("data.batch_size=4", "trainer.devices=2", "weighting=dwa", "model.drop_rate=0.3")
    whole, again = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "again")
    runs.train_run(settings(*options), whole.path)
    step = MultiTaskModule.training_step

    def signalled(self: MultiTaskModule, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 1 and batch_idx == 2:
            os.kill(os.getpid(), signal.SIGTERM)  # only to this process
        return step(self, batch, batch_idx)

    monkeypatch.setattr(MultiTaskModule, "training_step", signalled)
    with pytest.raises(Terminated):
        runs.train_run(settings(*options), again.path)
    monkeypatch.undo()
    assert again.read_result().status == "interrupted"
    saved = torch.load(again.last, weights_only=True)
    # At the next common moment. An epoch of 126 photos has 31 steps: the last two photos are too few for two processes.
    assert saved["global_step"] == 31 + 10
    runs.resume_run(again.path)
    states = [torch.load(run.last, weights_only=True) for run in (whole, again)]
    for name, tensor in states[0]["state_dict"].items():
        torch.testing.assert_close(states[1]["state_dict"][name], tensor, rtol=1e-5, atol=1e-6, msg=name)
    histories = [pd.read_csv(run.metrics) for run in (whole, again)]
    for name in histories[0]:
        np.testing.assert_allclose(histories[1][name], histories[0][name], rtol=1e-5, err_msg=name)


def signal_at(monkeypatch: pytest.MonkeyPatch, step: str, batch: int, count: int) -> list[subprocess.Popen[str]]:
    """Send SIGTERM to this process in a batch of `step`, and return the processes that the run starts."""
    original, started, start = getattr(MultiTaskModule, step), [], subprocess.Popen

    def signalled(self: MultiTaskModule, given: Any, batch_idx: int, *rest: Any) -> Any:
        if batch_idx == batch:
            for _ in range(count):
                os.kill(os.getpid(), signal.SIGTERM)
        return original(self, given, batch_idx, *rest)

    def recorded(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(MultiTaskModule, step, signalled)
    monkeypatch.setattr(subprocess, "Popen", recorded)
    return started


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "batch", "count", "grace"), [("validation_step", 1, 1, 0.0), ("training_step", 5, 2, 20.0)]
)
def test_a_long_validation_and_a_second_signal_end_both_processes(
    settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, batch: int, count: int, grace: float
) -> None:
    monkeypatch.setattr(interruption, "GRACE", grace)
    started, run = signal_at(monkeypatch, step, batch, count), RunFolder(tmp_path / "run")
    with pytest.raises(Terminated):
        runs.train_run(settings("data.batch_size=4", "trainer.devices=2"), run.path)
    assert run.read_result().status == "interrupted"
    assert torch.load(run.last, weights_only=True)["global_step"] == 0  # of before the epoch
    assert not run.metrics.exists()
    assert [process.poll() is not None for process in started] == [True]
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
def test_a_second_fit_of_two_processes_trains_what_the_first_has_frozen(settings, tmp_path: Path) -> None:
    """As in a notebook: DDP synchronises only parameters that are open when it wraps the module."""
    states = []
    for devices in (1, 2):
        chosen = settings(f"trainer.devices={devices}", f"outputs={tmp_path / str(devices)}", "data.batch_size=32")
        data = Data(chosen, find_photos(chosen), choose_transform(chosen))
        module = PreparedRun(chosen, data.spec, data.photos, data.photos).build_pretrained_module()
        fit_one_phase(module, data, 1, 1e-3, "heads", {"name": "one_cycle"})
        frozen = {name: value.clone() for name, value in module.state_dict().items()}
        fit_one_phase(module, data, 1, 1e-3, "all", {"name": "one_cycle"})
        moved = {name for name, value in module.state_dict().items() if not torch.equal(value, frozen[name])}
        assert any("backbone" in name for name in moved)
        states.append(module.state_dict())
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-3, atol=2e-5, msg=name)


def test_a_process_that_ends_early_is_an_error_with_its_last_output(tmp_path: Path, monkeypatch) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\necho ConfigError: of course >&2\nexit 3\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    message = (
        r"process 1 of the run ended with exit code 3, its last output: ConfigError: of course; its whole output is in "
    )
    with pytest.raises(ProcessError, match=message) as raised, ddp.other_ranks(2, {}):
        pytest.fail("it was not ready")
    assert "LOCAL_RANK" not in os.environ
    Path(str(raised.value).rsplit(" ", 1)[1]).unlink()


@pytest.mark.parametrize(
    ("devices", "accelerator", "gpus", "want"),
    [(3, "cpu", 0, 3), ("auto", "cpu", 4, 1), ("auto", "gpu", 4, 4), ("auto", "auto", 2, 2), ("auto", "auto", 0, 1)],
)
def test_count_processes(monkeypatch, devices, accelerator: str, gpus: int, want: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert ddp.count_processes(devices, accelerator) == want
