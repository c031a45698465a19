from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from mask_lightning.callbacks.checkpoints import RECORD, BestCheckpoint, LastCheckpoint
from mask_lightning.callbacks.weight_averaging import ExponentialAverage
from mask_lightning.engine.checkpoint_files import keep_weights

NAN = math.nan


def best(path: Path, mode: Any = "max", monitor: str = "val/f1") -> BestCheckpoint:
    return BestCheckpoint(path, monitor=monitor, mode=mode, evidence=lambda module: {"epoch": module.current_epoch})


def epoch_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["epoch"])


@pytest.mark.parametrize(
    ("scores", "mode", "epoch"),
    [
        ([0.1, 0.4, 0.3], "max", 1),
        ([0.1, 0.4, 0.3], "min", 0),
        ([0.1, 0.4, 0.3], "last", 2),
        ([0.5, 0.2, 0.5], "max", 0),  # the earlier of two equals
        ([0.0, 0.0, 0.0], "max", 0),
        ([NAN, 0.2, 0.1], "max", 1),  # anything is better than no number
        ([NAN, 0.2, 0.1], "min", 2),
        ([0.2, NAN, 0.1], "max", 0),
        ([0.2, NAN, NAN], "min", 0),
    ],
)
def test_the_best_epoch_is_kept(fit, dictated, tmp_path: Path, scores: list[float], mode: str, epoch: int) -> None:
    callback = best(tmp_path / "best.ckpt", mode)
    fit(dictated(scores), callback, epochs=len(scores))
    assert epoch_of(tmp_path / "best.ckpt") == callback.epoch == epoch
    assert callback.score == pytest.approx(scores[epoch])
    assert callback.scores == pytest.approx({"val/f1": scores[epoch], "clean_train/f1": 0.125 * epoch})
    assert callback.evidence == {"epoch": epoch}


def test_the_monitored_score_is_an_option(fit, dictated, tmp_path: Path) -> None:
    callback = best(tmp_path / "best.ckpt", "max", "clean_train/f1")
    fit(dictated([0.9, 0.5, 0.1]), callback, epochs=3)
    assert callback.epoch == 2


def test_sanity_checking_does_not_count(fit, dictated, tmp_path: Path) -> None:
    callback = best(tmp_path / "best.ckpt", "min")
    fit(dictated([0.3]), callback, epochs=0, num_sanity_val_steps=1)
    assert callback.score is None
    assert not (tmp_path / "best.ckpt").exists()


def test_the_best_weights_are_those_of_its_epoch(fit, dictated, tmp_path: Path) -> None:
    alone = dictated([0.0, 0.0])
    fit(alone, epochs=2)
    fit(dictated([0.1, 0.4, 0.3, 0.2]), best(tmp_path / "best.ckpt"), epochs=4)
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(kept["weight"], alone.weight)


def test_a_resumed_run_does_not_replace_the_best_by_a_worse_model(fit, dictated, tmp_path: Path) -> None:
    scores = [0.4, 0.1, 0.2, 0.3]
    first = best(tmp_path / "best.ckpt")
    fit(dictated(scores), first, LastCheckpoint(tmp_path / "last.ckpt"), epochs=2)
    second = best(tmp_path / "best.ckpt")
    fit(dictated(scores), second, LastCheckpoint(tmp_path / "last.ckpt"), epochs=4, resume=tmp_path / "last.ckpt")
    assert (second.score, second.epoch) == (pytest.approx(0.4), 0)
    assert second.scores == first.scores
    assert second.evidence == {"epoch": 0}
    assert epoch_of(tmp_path / "best.ckpt") == 0


class Crash(pl.Callback):
    """Ends the fit in an epoch after best.ckpt and before last.ckpt are written."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("power cut")


def crash(fit, dictated, tmp_path: Path, scores: list[float], mode: str = "max") -> None:
    """Leave a best.ckpt of epoch 2 beside a last.ckpt of epoch 1."""
    last = LastCheckpoint(tmp_path / "last.ckpt")
    with pytest.raises(RuntimeError, match="power cut"):
        fit(dictated(scores), best(tmp_path / "best.ckpt", mode), Crash(2), last, epochs=4)
    assert epoch_of(tmp_path / "best.ckpt") == 2
    assert epoch_of(tmp_path / "last.ckpt") == 1


def resume(fit, dictated, tmp_path: Path, scores: list[float], mode: str = "max") -> BestCheckpoint:
    callback, last = best(tmp_path / "best.ckpt", mode), LastCheckpoint(tmp_path / "last.ckpt")
    fit(dictated(scores), callback, last, epochs=4, resume=tmp_path / "last.ckpt")
    return callback


def score_in(path: Path) -> float:
    return float(torch.load(path, weights_only=True)[RECORD]["score"])


@pytest.mark.parametrize(
    ("again", "score", "epoch"),
    [
        ([0.3, 0.2], 0.6, 2),  # without the file's score: 0.4 of epoch 0, beside the weights of epoch 2
        ([0.5, 0.2], 0.6, 2),
        ([0.6, 0.2], 0.6, 2),
        ([0.7, 0.2], 0.7, 2),
        ([0.3, 0.9], 0.9, 3),
    ],
)
@pytest.mark.parametrize("keys", ["new", "old"])
def test_after_a_crash_between_the_files_score_and_weights_are_of_the_same_epoch(
    fit, dictated, tmp_path: Path, caplog, again: list[float], score: float, epoch: int, keys: str
) -> None:
    """The epoch after the crash has another score, as on a GPU."""
    path = tmp_path / "best.ckpt"
    crash(fit, dictated, tmp_path, [0.4, 0.1, 0.6, 0.0])
    if keys == "old":  # version 0.1.0 has the score in the state of the callback only
        content = torch.load(path, weights_only=True)
        del content[RECORD]
        torch.save(content, path)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="mask_lightning"):
        callback = resume(fit, dictated, tmp_path, [0.4, 0.1, *again])
    assert (callback.score, callback.epoch) == (pytest.approx(score), epoch)
    assert callback.scores["val/f1"] == pytest.approx(score)
    assert callback.evidence == {"epoch": epoch}
    assert epoch_of(path) == epoch
    if keys == "new" or score > 0.6:
        assert score_in(path) == callback.score
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("mask_lightning")]
    assert "is the model of epoch 3 with val/f1 0.6000, but last.ckpt records 0.4000 in epoch 1" in message


def test_a_file_without_a_score_is_not_compared(fit, dictated, tmp_path: Path, caplog) -> None:
    path = tmp_path / "best.ckpt"
    crash(fit, dictated, tmp_path, [0.4, 0.1, 0.6, 0.0])
    content = torch.load(path, weights_only=True)
    torch.save({name: value for name, value in content.items() if name not in (RECORD, "callbacks")}, path)
    with caplog.at_level(logging.WARNING, logger="mask_lightning"):
        callback = resume(fit, dictated, tmp_path, [0.4, 0.1, 0.3, 0.2])
    assert (callback.score, callback.epoch) == (pytest.approx(0.4), 0)
    assert not [record for record in caplog.records if record.name.startswith("mask_lightning")]


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_lost_best_checkpoint_is_replaced_at_the_next_validation(
    fit, dictated, tmp_path: Path, caplog, damage: str
) -> None:
    path = tmp_path / "best.ckpt"
    crash(fit, dictated, tmp_path, [0.4, 0.1, 0.6, 0.0])
    path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:100])
    with caplog.at_level(logging.WARNING, logger="mask_lightning"):
        callback = resume(fit, dictated, tmp_path, [0.4, 0.1, 0.2, 0.3])
    assert (score_in(path), epoch_of(path)) == (callback.score, callback.epoch) == (pytest.approx(0.3), 3)
    assert "found no readable checkpoint" in caplog.text


@pytest.mark.parametrize("scores", [[0.4, 0.1, 0.2, 0.3], [0.1, 0.4, 0.2, 0.5], [NAN, NAN, NAN, NAN]])
@pytest.mark.parametrize("mode", ["max", "min", "last"])
def test_files_that_agree_are_not_reported(fit, dictated, tmp_path: Path, caplog, scores, mode: str) -> None:
    whole = best(tmp_path / "whole.ckpt", mode)
    fit(dictated(scores), whole, epochs=4)
    first, last = best(tmp_path / "best.ckpt", mode), LastCheckpoint(tmp_path / "last.ckpt")
    fit(dictated(scores), first, last, epochs=2)
    with caplog.at_level(logging.WARNING, logger="mask_lightning"):
        second = resume(fit, dictated, tmp_path, scores, mode)
    assert (second.epoch, epoch_of(tmp_path / "best.ckpt")) == (whole.epoch, epoch_of(tmp_path / "whole.ckpt"))
    assert second.score == pytest.approx(whole.score, nan_ok=True)
    assert not [record for record in caplog.records if record.name.startswith("mask_lightning")]


class Stop(pl.Callback):
    """Ends the run in the middle of an epoch."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.at = epoch, batch

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            raise RuntimeError("power cut")


@pytest.mark.parametrize(("epoch", "batch"), [(0, 0), (0, 2), (2, 1)])
def test_a_run_resumes_from_its_last_complete_epoch(fit, dictated, tmp_path: Path, epoch: int, batch: int) -> None:
    scores, path = [0.1, 0.2, 0.3, 0.4], tmp_path / "last.ckpt"
    with pytest.raises(RuntimeError, match="power cut"):
        fit(dictated(scores), LastCheckpoint(path), Stop(epoch, batch), epochs=4)
    module = dictated(scores)
    trainer = fit(module, LastCheckpoint(path), epochs=4, resume=path)
    assert trainer.global_step == 12
    whole = dictated(scores)
    fit(whole, epochs=4)
    assert torch.equal(module.weight, whole.weight)


def test_the_last_checkpoint_follows_every_epoch(fit, dictated, tmp_path: Path) -> None:
    module = dictated([0.4, 0.3, 0.2])
    fit(module, LastCheckpoint(tmp_path / "last.ckpt"), epochs=3)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (kept["epoch"], kept["global_step"]) == (2, 9)
    assert torch.equal(kept["state_dict"]["weight"], module.weight)
    assert {entry.name for entry in tmp_path.iterdir()} == {"last.ckpt"}


class Steps(pl.Callback):
    """After each batch, the step that the file at `path` was saved at."""

    def __init__(self, path: Path) -> None:
        self.path, self.seen = path, []

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen.append(torch.load(self.path, weights_only=True)["global_step"])


@pytest.mark.parametrize(
    ("every_minutes", "options", "seen"),
    [
        (None, {}, [0, 0, 0, 3, 3, 3]),
        (5, {}, [0, 0, 0, 3, 3, 3]),
        (1e-9, {}, [1, 2, 2, 4, 5, 5]),  # an epoch's end saves itself, after its last batch
        (1e-9, {"accumulate_grad_batches": 2}, [0, 1, 1, 2, 3, 3]),  # gradients are not saved
        (1e-9, {"limit_train_batches": 2}, [1, 1, 3, 3]),
    ],
)
def test_long_epochs_are_saved_between_their_steps(
    fit, dictated, tmp_path: Path, every_minutes: float | None, options: dict[str, Any], seen: list[int]
) -> None:
    path = tmp_path / "last.ckpt"
    steps = Steps(path)
    fit(dictated([0.1, 0.2]), LastCheckpoint(path, every_minutes=every_minutes), steps, epochs=2, **options)
    assert steps.seen == seen


def test_weights_that_are_not_finite_are_not_saved(fit, dictated, tmp_path: Path) -> None:
    """A finite loss may have gradients that are not."""

    class Spoiler(pl.Callback):
        def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
            if trainer.global_step == 1:
                pl_module.weight.grad.fill_(NAN)

        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 2:
                raise RuntimeError("the next loss is no number")

    with pytest.raises(RuntimeError, match="no number"):
        fit(dictated([0.1]), Spoiler(), LastCheckpoint(tmp_path / "last.ckpt", every_minutes=1e-9), epochs=1)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 1
    assert kept["state_dict"]["weight"].isfinite().all()


@pytest.mark.parametrize("half", [False, True])
def test_keep_weights_keeps_the_average_without_the_optimizer(fit, network, tmp_path: Path, half: bool) -> None:
    path = tmp_path / "best.ckpt"
    trainer = fit(network, ExponentialAverage(0.9), LastCheckpoint(path), epochs=1)
    before = torch.load(path, weights_only=True)
    size = path.stat().st_size
    torch.save({**before, RECORD: {"score": 0.5, "epoch": 0}}, path)
    for _ in range(2):  # a crash after it may repeat it
        keep_weights(path, half=half)
    kept = torch.load(path, weights_only=True)
    assert not {"optimizer_states", "callbacks", "current_model_state", "loops"} & set(kept)
    assert kept["global_step"] == trainer.global_step
    assert kept[RECORD] == {"score": 0.5, "epoch": 0}
    assert path.stat().st_size < size / (6 if half else 3)  # weights, their average, and AdamW's two moments of each
    assert list(kept["state_dict"]) == list(before["state_dict"])
    for name, tensor in before["state_dict"].items():
        stored = kept["state_dict"][name]
        assert stored.dtype == (torch.float16 if half and tensor.dim() > 1 else tensor.dtype)
        torch.testing.assert_close(stored.to(tensor.dtype), tensor, rtol=2**-11 if half else 0, atol=2**-24)


def test_values_outside_of_float16_stay_float32(tmp_path: Path) -> None:
    path, large = tmp_path / "best.ckpt", torch.tensor([[7e4, 1.0]])
    torch.save({"state_dict": {"large": large, "small": large / 10}}, path)
    keep_weights(path, half=True)
    kept = torch.load(path, weights_only=True)["state_dict"]
    assert torch.equal(kept["large"], large)
    assert kept["small"].dtype == torch.float16
