"""The average is validated, saved and left in the module; training is not affected."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn

from mask_lightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from mask_lightning.callbacks.phased_finetuning import PhasedFinetuning
from mask_lightning.callbacks.weight_averaging import ExponentialAverage, decay_after
from mask_lightning.errors import ConfigError
from mask_lightning.settings.optim import PhaseSettings

State = dict[str, Tensor]


class Spy(pl.Callback):
    """Records the trained weight after every optimizer step, and the weight that is validated."""

    def __init__(self) -> None:
        self.learning: list[float] = []
        self.validated: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step > len(self.learning):
            self.learning.append(pl_module.weight.item())

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.validated.append(pl_module.weight.item())


def averages(weights: list[float], decay: float) -> list[float]:
    """The average after each step, by the recurrence in double precision."""
    values = [weights[0]]
    for n, weight in enumerate(weights[1:], start=1):
        kept = min(decay, (1 + n) / (10 + n))
        values.append(kept * values[-1] + (1 - kept) * weight)
    return values


def state_of(path: Path, key: str = "state_dict") -> State:
    return torch.load(path, weights_only=True)[key]  # type: ignore[no-any-return]


def assert_equal(found: State, want: State) -> None:
    assert found.keys() == want.keys()
    for name, value in want.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(("updates", "decay", "want"), [(0, 0.9, 0.1), (8, 0.9, 0.5), (8, 0.3, 0.3), (10**6, 0.9, 0.9)])
def test_the_decay_grows_up_to_its_value(updates: int, decay: float, want: float) -> None:
    assert decay_after(updates, decay) == pytest.approx(want)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, math.nan])
def test_a_decay_out_of_range_is_an_error(decay: float) -> None:
    with pytest.raises(ConfigError, match=r"decay must be in \(0, 1\)"):
        ExponentialAverage(decay)


@pytest.mark.parametrize("decay", [0.5, 0.99])
@pytest.mark.parametrize(("accumulate", "steps"), [(1, 9), (2, 6)])  # three epochs of three batches
def test_the_average_is_validated_saved_and_left_in_the_module(
    fit, dictated, tmp_path: Path, decay, accumulate, steps: int
) -> None:
    module, spy = dictated([0.1, 0.3, 0.2]), Spy()
    best = BestCheckpoint(tmp_path / "best.ckpt", monitor="val/f1", mode="max")
    last = LastCheckpoint(tmp_path / "last.ckpt")
    fit(module, ExponentialAverage(decay), spy, best, last, epochs=3, accumulate_grad_batches=accumulate)
    want = averages(spy.learning, decay)
    assert len(want) == steps
    per_epoch = want[steps // 3 - 1 :: steps // 3]
    assert spy.validated == pytest.approx(per_epoch)
    assert state_of(tmp_path / "best.ckpt")["weight"].item() == pytest.approx(per_epoch[1])
    assert state_of(tmp_path / "last.ckpt")["weight"].item() == pytest.approx(want[-1])
    assert state_of(tmp_path / "last.ckpt", "current_model_state")["weight"].item() == spy.learning[-1]
    assert module.weight.item() == pytest.approx(want[-1])
    assert not np.allclose(spy.learning[-1], want[-1], rtol=1e-3)


def test_training_is_not_affected_by_the_average(fit, dictated) -> None:
    with_average, without = Spy(), Spy()
    fit(dictated([0.1, 0.2]), ExponentialAverage(0.9), with_average, epochs=2)
    fit(dictated([0.1, 0.2]), without, epochs=2)
    assert with_average.learning == without.learning


def test_no_checkpoint_contains_untrained_weights(fit, dictated, tmp_path: Path) -> None:
    """Except the checkpoint before training, from which a run is resumed."""
    module = dictated([0.1])
    path, spy = tmp_path / "best.ckpt", Spy()
    best = BestCheckpoint(path, monitor="val/f1", mode="max")
    fit(module, ExponentialAverage(0.999), best, spy, epochs=1, limit_train_batches=1)
    assert state_of(path)["weight"].item() == module.weight.item() == spy.learning[0] != 0


def test_an_average_over_phases_resumes_exactly(fit, network, tmp_path: Path) -> None:
    phases = [PhaseSettings(epochs=1, unfreeze="heads"), PhaseSettings(epochs=2, unfreeze="all")]

    def run(module: Any, name: str, epochs: int, resume: Path | None = None) -> None:
        finetuning = PhasedFinetuning(phases, module.network.layer_groups())
        last = LastCheckpoint(tmp_path / name)
        fit(module, finetuning, ExponentialAverage(0.9), last, epochs=epochs, resume=resume, accumulate_grad_batches=2)

    half, rest = type(network)(), type(network)()
    run(network, "whole.ckpt", 3)
    run(half, "half.ckpt", 2)
    run(rest, "rest.ckpt", 3, resume=tmp_path / "half.ckpt")
    for key in ("state_dict", "current_model_state", "averaging_state"):
        assert_equal(state_of(tmp_path / "rest.ckpt", key), state_of(tmp_path / "whole.ckpt", key))
    assert_equal(rest.state_dict(), network.state_dict())


def test_frozen_groups_do_not_drift_and_statistics_are_averaged(fit, network, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    finetuning = PhasedFinetuning([PhaseSettings(epochs=1, unfreeze={"last": 1})], network.network.layer_groups())
    fit(network, finetuning, ExponentialAverage(0.9), LastCheckpoint(tmp_path / "last.ckpt"), epochs=1)
    average, current = (state_of(tmp_path / "last.ckpt", key) for key in ("state_dict", "current_model_state"))
    opened = ("network.sharing.backbone.layer4.", "network.heads.")
    assert_equal(
        {name: value for name, value in average.items() if not name.startswith(opened)},
        {name: value for name, value in before.items() if not name.startswith(opened)},
    )
    for name, value in average.items():
        if name.startswith(opened):
            counts = name.endswith("num_batches_tracked")
            assert not torch.equal(value, before[name]), name
            assert torch.equal(value, current[name]) == counts, name
    type(network)().load_state_dict(average)


def test_the_memory_format_is_kept(fit, network) -> None:
    network.to(memory_format=torch.channels_last)
    fit(network, ExponentialAverage(0.9), epochs=1)
    convolution = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("decay", "accumulate", "skipped"), [(0.9, 1, 0), (0.9, 1, 1), (0.9, 1, 3), (0.9, 2, 1), (0.5, 1, 2)]
)
def test_steps_that_the_gradscaler_skips_are_not_averaged(
    fit, dictated, tmp_path: Path, decay: float, accumulate: int, skipped: int
) -> None:
    """GradScaler skips a step whose scaled gradients overflow: usually the first ones."""
    weights: list[float] = []

    class Overflow(pl.Callback):
        def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
            if trainer.global_step < skipped:
                pl_module.weight.grad.fill_(math.inf)

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
            if trainer.global_step > len(weights):
                weights.append(pl_module.weight.item())

    module, last = dictated([0.1, 0.2]), LastCheckpoint(tmp_path / "last.ckpt")
    precision = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0**10))
    callbacks = ExponentialAverage(decay), Overflow(), last
    fit(module, *callbacks, epochs=2, accumulate_grad_batches=accumulate, plugins=[precision])
    assert len(weights) == (4 if accumulate == 2 else 6)
    assert weights[:skipped] == [0.0] * skipped
    assert all(weights[skipped:])
    want = averages(weights[skipped:], decay)
    assert module.weight.item() == pytest.approx(want[-1], rel=1e-5)
    assert int(state_of(tmp_path / "last.ckpt", "averaging_state")["n_averaged"]) == len(want)


def test_an_update_reads_no_value_from_the_device() -> None:
    """Tensors of the meta device have no values: reading one is an error."""
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("meta")), callbacks=[], global_step=1, optimizers=[]
    )
    averaging, pl_module = ExponentialAverage(0.9), pl.LightningModule()
    pl_module.network = module
    averaging.setup(trainer, pl_module, "fit")
    averaging.on_train_start(trainer, pl_module)
    for _ in range(3):
        averaging.on_train_batch_start(trainer, pl_module, None, 0)
        averaging._note_step()
        averaging.on_train_batch_end(trainer, pl_module, None, None, 0)
    assert averaging._average_model is not None
    assert int(averaging._average_model.n_averaged) == 3


@pytest.mark.gpu
def test_an_update_does_not_wait_for_the_gpu(dictated) -> None:
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cuda")), callbacks=[], global_step=1, optimizers=[]
    )
    averaging, module = ExponentialAverage(0.9), dictated()
    averaging.setup(trainer, module, "fit")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            averaging._note_step()
            averaging.on_train_batch_end(trainer, module, None, None, 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
