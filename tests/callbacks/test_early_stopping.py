from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest

from mask_lightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from mask_lightning.callbacks.early_stopping import LastPhaseStopping
from mask_lightning.settings.optim import PhaseSettings

NAN = math.nan


def stopping(phases: list[int], patience: int, mode: str = "max") -> LastPhaseStopping:
    plan = [PhaseSettings(epochs=epochs) for epochs in phases]
    return LastPhaseStopping(plan, monitor="val/f1", mode=mode, patience=patience)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scores", "phases", "patience", "mode", "epochs"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], [5], 1, "max", 5),
        ([0.3, 0.2, 0.4, 0.1, 0.1], [5], 1, "max", 2),
        ([0.3, 0.2, 0.4, 0.1, 0.1], [5], 2, "max", 5),
        ([0.3, 0.3, 0.3, 0.3, 0.3], [5], 2, "max", 3),  # an equal score is none better
        ([0.1, 0.2, 0.1, 0.1, 0.1], [5], 2, "min", 3),
        ([0.5, 0.1, 0.1, 0.1, 0.1], [3, 2], 1, "max", 5),  # the first phase runs to its end
        ([0.5, 0.4, 0.3, 0.2, 0.1], [1, 1, 3], 1, "max", 4),  # the last phase is compared with itself
        ([0.3, NAN, NAN, 0.4, 0.5], [5], 3, "max", 5),
        ([0.3, NAN, NAN, 0.4, 0.5], [5], 2, "max", 3),
        ([NAN, 0.1, 0.2, 0.3, 0.4], [5], 2, "max", 5),
    ],
)
def test_a_run_ends_when_the_last_phase_no_longer_improves(
    fit, dictated, scores: list[float], phases: list[int], patience: int, mode: str, epochs: int
) -> None:
    trainer = fit(dictated(scores), stopping(phases, patience, mode), epochs=len(scores))
    assert trainer.global_step == 3 * epochs


def test_stopping_is_logged_and_the_best_epoch_is_kept(
    fit, dictated, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best = BestCheckpoint(tmp_path / "best.ckpt", monitor="val/f1", mode="max")
    with caplog.at_level(logging.INFO, logger="mask_lightning"):
        fit(dictated([0.2, 0.41, 0.3, 0.4, 0.9, 0.9]), stopping([6], 2), best, epochs=6)
    assert best.epoch == 1
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("mask_lightning")]
    assert message == "val/f1 has not improved on 0.410 in 2 validations: the run ends after epoch 4 of 6"


def test_only_validations_count(fit, dictated) -> None:
    trainer = fit(dictated([0.0, 0.5, 0.0, 0.4, 0.0, 0.9]), stopping([6], 1), epochs=6, check_val_every_n_epoch=2)
    assert trainer.global_step == 3 * 4


def test_a_resumed_run_continues_the_count(fit, dictated, tmp_path: Path) -> None:
    scores, path = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0], tmp_path / "last.ckpt"
    fit(dictated(scores), stopping([6], 3), LastCheckpoint(path), epochs=2)
    trainer = fit(dictated(scores), stopping([6], 3), LastCheckpoint(path), epochs=6, resume=path)
    assert trainer.global_step == 3 * 4


def test_a_stopped_run_does_not_train_when_it_is_resumed(fit, dictated, tmp_path: Path) -> None:
    scores, path = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0], tmp_path / "last.ckpt"
    whole = fit(dictated(scores), stopping([6], 2), LastCheckpoint(path), epochs=6)
    resumed = fit(dictated(scores), stopping([6], 2), LastCheckpoint(path), epochs=6, resume=path)
    assert resumed.global_step == whole.global_step == 3 * 3
