from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from mask_lightning.callbacks.checkpoints import LastCheckpoint
from mask_lightning.callbacks.finite_loss import STRIDE, TOLERANCE, FiniteLoss
from mask_lightning.errors import DivergedError

PATHS = [f"photo{i}.jpg" for i in range(10)]


def poisoned(module: Any, step: int, value: float) -> Any:
    """The module, with a loss of that value from that step on."""
    original = module.training_step

    def training_step(batch: Any, batch_idx: int) -> torch.Tensor:
        loss = original(batch, batch_idx)
        return loss * value if module.trainer.global_step >= step else loss

    module.training_step = training_step
    return module


@pytest.mark.parametrize(
    ("step", "value", "epoch", "photos"),
    [
        (0, math.nan, 1, PATHS[:4]),
        (1, math.inf, 1, PATHS[4:8]),
        (5, math.nan, 2, PATHS[8:]),  # the last batch of the second epoch, before its checkpoint
    ],
)
def test_a_run_stops_at_the_first_loss_that_is_not_finite(
    fit, dictated, tmp_path: Path, step: int, value: float, epoch: int, photos: list[str]
) -> None:
    report, last = tmp_path / "not_finite.csv", tmp_path / "last.ckpt"
    with pytest.raises(DivergedError, match=rf"epoch {epoch}; .*not_finite.csv; lower optim.lr"):
        fit(poisoned(dictated([0.1] * 3), step, value), FiniteLoss(report, PATHS), LastCheckpoint(last), epochs=3)
    rows = pd.read_csv(report)
    assert rows["path"].tolist() == photos
    assert set(rows["step"]) == {step + 1}
    kept = torch.load(last, weights_only=True)
    assert kept["global_step"] == 3 * (epoch - 1)
    assert all(tensor.isfinite().all() for tensor in kept["state_dict"].values())


def test_weights_that_are_not_finite_reach_no_checkpoint(fit, dictated, tmp_path: Path) -> None:
    module, last = dictated([0.1] * 2), tmp_path / "last.ckpt"
    module.on_after_backward = lambda: module.weight.grad.fill_(math.nan) if module.trainer.global_step == 5 else None
    with pytest.raises(DivergedError, match="expected finite weights, found NaN or infinity after epoch 2; lower"):
        fit(module, FiniteLoss(tmp_path / "not_finite.csv", PATHS), LastCheckpoint(last), epochs=2)
    assert torch.load(last, weights_only=True)["state_dict"]["weight"].isfinite().all()


def test_a_finite_run_leaves_no_report(fit, dictated, tmp_path: Path) -> None:
    fit(dictated([0.1] * 2), FiniteLoss(tmp_path / "not_finite.csv", PATHS), epochs=2)
    assert not (tmp_path / "not_finite.csv").exists()


def seen(losses: list[float], tmp_path: Path, *, device: str, scaler: object, decision: bool = False) -> list[int]:
    """Steps in the report after a fit with those losses on a stand-in trainer; empty where the run goes on."""
    callback = FiniteLoss(tmp_path / "not_finite.csv", PATHS)
    module: Any = SimpleNamespace(device=torch.device(device), parameters=lambda: [torch.ones(1)])
    for step, loss in enumerate(losses):
        trainer: Any = SimpleNamespace(
            global_step=step,
            current_epoch=0,
            global_rank=0,
            is_last_batch=step == len(losses) - 1,
            precision_plugin=SimpleNamespace(scaler=scaler),
            strategy=SimpleNamespace(reduce_boolean_decision=lambda ends, all: ends or decision),
        )
        try:
            callback.on_train_batch_end(
                trainer, module, {"loss": torch.tensor(loss)}, {"index": torch.tensor([step % 10])}, step
            )
        except DivergedError:
            return pd.read_csv(callback.report)["step"].tolist() if callback.report.exists() else [-1]
    return []


BAD, GOOD = math.nan, 1.0


@pytest.mark.parametrize(
    ("losses", "scaler", "steps"),
    [
        ([GOOD] * STRIDE + [BAD] * TOLERANCE + [GOOD], True, []),  # skipped by the GradScaler
        ([BAD] * (TOLERANCE + 1), True, list(range(TOLERANCE + 1))),
        (([BAD] * TOLERANCE + [GOOD]) * 2, True, []),  # never more than that in a row
        ([GOOD, BAD, *[GOOD] * STRIDE], None, [1]),  # checked late, reported correctly
        ([GOOD] * 3 + [BAD], None, [3]),  # the last batch is always looked at
    ],
)
def test_a_gpu_is_checked_every_few_steps_and_a_grad_scaler_may_skip(
    tmp_path: Path, losses: list[float], scaler: object, steps: list[int]
) -> None:
    assert seen(losses, tmp_path, device="cuda", scaler=scaler) == steps


def test_all_processes_stop_with_the_one_that_diverged(tmp_path: Path) -> None:
    assert seen([GOOD], tmp_path, device="cpu", scaler=None, decision=True) == [-1]
