"""SIGINT and SIGTERM at every moment of a fit."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.fit_loop import _FitLoop
from pytorch_lightning.utilities.exceptions import SIGTERMException

from mask_lightning.callbacks import interruption
from mask_lightning.callbacks.checkpoints import LastCheckpoint
from mask_lightning.callbacks.interruption import Interruption


class Sender(pl.Callback):
    """Sends signals to this process, `count` of them one after the other, at a moment of the second epoch."""

    def __init__(self, number: int, moment: str, *, epoch: int = 1, batch: int = 0, count: int = 1) -> None:
        self.number, self.epoch, self.batch, self.count = number, epoch, batch, count
        self.steps_after = 0
        setattr(self, moment, self._send)

    def _send(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        if trainer.current_epoch == self.epoch and (trainer.validating or batches == self.batch):
            for _sent in range(self.count):
                os.kill(os.getpid(), self.number)

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.steps_after += 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("moment", "batch", "options", "steps", "saved"),
    [
        ("on_before_backward", 0, {}, 4, 4),  # the step at hand is done, and saved
        ("on_train_batch_start", 1, {}, 5, 5),
        ("on_before_backward", 2, {}, 6, 6),  # the epoch's last: the validation is done, and saved
        ("on_before_backward", 2, {"limit_val_batches": 0}, 6, 6),  # no validation: the epoch is whole
        ("on_validation_batch_start", 0, {}, 6, 6),
        ("on_train_epoch_start", 3, {}, 4, 4),
        (
            "on_before_backward",
            0,
            {"accumulate_grad_batches": 2},
            5,
            3,
        ),  # 2 steps an epoch, and the first of the second
    ],
)
def test_one_signal_ends_the_fit_between_two_steps(
    fit, dictated, tmp_path: Path, number: int, moment: str, batch: int, options: dict[str, Any], steps: int, saved: int
) -> None:
    sender, last = Sender(number, moment, batch=batch), LastCheckpoint(tmp_path / "last.ckpt")
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit) as stop:
        fit(dictated([0.1] * 3), sender, last, Interruption(last), epochs=3, **options)
    assert isinstance(stop.value, SIGTERMException) == (number == signal.SIGTERM)
    assert sender.steps_after == steps
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == saved
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_validation_that_takes_too_long_is_abandoned(fit, dictated, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(interruption, "GRACE", 0)
    sender, last = Sender(signal.SIGTERM, "on_validation_batch_start"), LastCheckpoint(tmp_path / "last.ckpt")
    with pytest.raises(SIGTERMException):
        fit(dictated([0.1] * 3), sender, last, Interruption(last), epochs=3)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(fit, dictated, tmp_path: Path, number: int) -> None:
    sender, last = Sender(number, "on_before_backward", count=2), LastCheckpoint(tmp_path / "last.ckpt")
    with pytest.raises(SystemExit):
        fit(dictated([0.1] * 3), sender, last, Interruption(last), epochs=3)
    assert sender.steps_after == 3
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3


@pytest.mark.parametrize("moment", ["on_before_backward", "on_train_start"])
def test_an_earlier_sigterm_handler_is_called_once(fit, dictated, tmp_path: Path, moment: str) -> None:
    received = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    last = LastCheckpoint(tmp_path / "last.ckpt")
    sender = Sender(signal.SIGTERM, moment, epoch=0)
    try:
        with pytest.raises(SIGTERMException):
            fit(dictated([0.1] * 3), sender, last, Interruption(last), epochs=3)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert received == [signal.SIGTERM]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_teardown_is_raised_after_the_fit(
    fit, dictated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    last = LastCheckpoint(tmp_path / "last.ckpt")
    interruption, teardown = Interruption(last), _FitLoop.teardown

    def signalled(self: _FitLoop) -> None:
        os.kill(os.getpid(), number)
        teardown(self)

    monkeypatch.setattr(_FitLoop, "teardown", signalled)
    fit(dictated([0.1]), last, interruption, epochs=1)
    with pytest.raises((KeyboardInterrupt, SIGTERMException)):
        interruption.after_fit()


def test_signal_handlers_are_restored_after_a_fit(fit, dictated, tmp_path: Path) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    last = LastCheckpoint(tmp_path / "last.ckpt")
    fit(dictated([0.1]), last, Interruption(last), epochs=1)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_ignored_signal_stays_ignored(fit, dictated, tmp_path: Path, number: int) -> None:
    """A script starts a job with `&`, or after `trap ''`."""
    former = signal.signal(number, signal.SIG_IGN)
    last = LastCheckpoint(tmp_path / "last.ckpt")
    try:
        sender = Sender(number, "on_before_backward")
        trainer = fit(dictated([0.1] * 3), sender, last, Interruption(last), epochs=3)
    finally:
        signal.signal(number, former)
    assert trainer.global_step == 9


class Processes:
    """Strategy of several processes: another has received `agreed`, and a signal arrives here during the agreement."""

    root_device = torch.device("cpu")

    def __init__(self, agreed: int | None, meanwhile: int | None) -> None:
        self.agreed, self.meanwhile = agreed, meanwhile

    def reduce(self, own: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "max"
        if self.meanwhile is not None:
            os.kill(os.getpid(), self.meanwhile)
        return own if self.agreed is None else own.clamp(min=self.agreed)


@pytest.mark.parametrize(
    ("agreed", "meanwhile", "ends"),
    [(None, None, []), (None, signal.SIGINT, [1]), (signal.SIGTERM, None, [0]), (signal.SIGTERM, signal.SIGINT, [0])],
)
def test_all_processes_end_at_the_same_batch(agreed: int | None, meanwhile: int | None, ends: list[int]) -> None:
    """A signal that arrives during the agreement is handled at the next one: by all processes, and not lost."""
    trainer = Mock(world_size=2, global_rank=0, accumulate_grad_batches=1)
    trainer.fit_loop.epoch_loop.batch_progress.current.ready = 10
    interruption = Interruption(Mock())
    former, ended = signal.getsignal(signal.SIGINT), []
    interruption.on_fit_start(trainer, Mock())
    interruption.on_train_start(trainer, Mock())
    try:
        for moment in range(2):
            trainer.strategy = Processes(agreed, None if moment else meanwhile)
            try:
                interruption.on_train_batch_end(trainer, Mock(), None, None, 0)
            except (KeyboardInterrupt, SIGTERMException):
                ended.append(moment)
                break
    finally:
        signal.signal(signal.SIGINT, former)
    assert ended == ends


@pytest.mark.parametrize(
    ("common", "seconds", "want"),
    [
        ([7], 5.0, range(7)),  # a slow batch: after each
        ([7], 0.3, [0, 3, 6]),
        ([7], 0.0, [0]),
        ([0], 5.0, []),  # another process has no batch of this loader
    ],
)
def test_processes_communicate_about_once_per_second_of_a_validation(
    common: list[int], seconds: float, want: list[int]
) -> None:
    pace, due = interruption.Pace(common), []
    for batch in range(8):  # of this process
        if pace.is_due(batch, 0):
            due.append(batch)
            pace.plan_next(batch, seconds)
    assert due == list(want)


@pytest.mark.parametrize(
    ("grace", "here", "there", "ends"), [(0, 15, 0, 1), (0, 0, 2, 1), (60, 15, 0, 0), (0, 0, 0, 0)]
)
def test_processes_abandon_a_long_validation_together(
    monkeypatch: pytest.MonkeyPatch, grace: float, here: int, there: int, ends: int
) -> None:
    monkeypatch.setattr(interruption, "GRACE", grace)
    former = signal.getsignal(signal.SIGINT)
    trainer = Mock(world_size=2, global_rank=0, num_val_batches=[3, 1], strategy=Processes(None, None))
    callback = Interruption(Mock())
    callback.on_fit_start(trainer, Mock())
    callback.on_validation_start(trainer, Mock())
    trainer.strategy = Processes(there or None, None)
    if here:
        callback._receive(here, None)
    ended = 0
    try:
        callback.on_validation_batch_end(trainer, Mock(), None, None, 0)
    except (KeyboardInterrupt, SIGTERMException):
        ended = 1
    assert ended == ends
    assert signal.getsignal(signal.SIGINT) == former


@pytest.mark.parametrize(("rank", "raises"), [(0, True), (1, False)])
def test_the_second_signal_is_for_rank_zero_which_ends_the_others(rank: int, raises: bool) -> None:
    callback = Interruption(Mock())
    callback.on_fit_start(Mock(global_rank=rank), Mock())
    callback._receive(signal.SIGTERM, None)
    if raises:
        with pytest.raises(SIGTERMException):
            callback._receive(signal.SIGTERM, None)
    else:
        callback._receive(signal.SIGTERM, None)


def test_the_effect_of_a_signal_is_logged(fit, dictated, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    last = LastCheckpoint(tmp_path / "last.ckpt")
    with pytest.raises(SystemExit):
        fit(dictated([0.1] * 3), Sender(signal.SIGINT, "on_before_backward"), last, Interruption(last), epochs=3)
    assert "a second signal ends it at once" in caplog.text
