"""A range test leaves no trace in a real fit, its curve is that of real steps, and its rules equal fastai's."""

from __future__ import annotations

import json
import math
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import nn
from torch.utils.data import DataLoader, Sampler
from torchmetrics import MeanMetric

import mask_lightning
from mask_lightning import Ranger
from mask_lightning.callbacks.lr_range_test import (
    LRRangeTest,
    RangeTestResult,
    is_past_lowest,
    minimum,
    range_test,
    slide,
    steep,
    suggest,
    usable,
    valley,
)
from mask_lightning.callbacks.phased_finetuning import PhasedFinetuning
from mask_lightning.errors import ConfigError, NoSuggestionError, RangeTestError
from mask_lightning.settings.optim import PhaseSettings


class Noisy(pl.LightningModule):
    """Draws from every random source, has BatchNorm, momentum, a metric and a schedule that steps and warms up."""

    def __init__(self, workers: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU())
        self.head = nn.Linear(8, 1)
        self.mean = MeanMetric()
        self.workers, self.logged = workers, []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        noise = random.random() + float(np.random.rand())
        loss = (self.head(self.body(batch[:, :6] + noise)) - batch[:, 6:]).square().mean()
        self.mean(loss)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        self.log("train/mean", self.mean, on_epoch=True, on_step=False)
        return loss

    def on_train_epoch_end(self) -> None:
        self.logged.append({name: float(value) for name, value in self.trainer.callback_metrics.items()})

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.head(self.body(batch[:, :6])).mean())

    def loader(self, **options: Any) -> DataLoader[torch.Tensor]:
        data: Any = torch.randn(20, 7, generator=torch.Generator().manual_seed(1))
        return DataLoader(data, batch_size=4, **options)

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        return self.loader(shuffle=True, num_workers=self.workers, persistent_workers=self.workers > 0)

    def val_dataloader(self) -> DataLoader[torch.Tensor]:
        return self.loader()

    def configure_optimizers(self) -> Any:
        groups = [
            {"name": "body", "params": self.body.parameters(), "lr": 1e-3},
            {"name": "head", "params": self.head.parameters(), "lr": 1e-2},
        ]
        optimizer = torch.optim.AdamW(groups)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[1e-3, 1e-2], total_steps=40)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class Spy(pl.Callback):
    """Records lrs and momenta of every optimizer step, and counts calls of the batch hooks."""

    def __init__(self) -> None:
        self.lrs: list[list[float]] = []
        self.momenta: list[float] = []
        self.grads: list[float] = []
        self.started = self.ended = 0

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.lrs.append([group["lr"] for group in optimizer.param_groups])
        self.momenta.append(optimizer.param_groups[0].get("betas", (0,))[0])

    def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        grads = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        self.grads += [float(torch.linalg.vector_norm(torch.cat([grad.flatten() for grad in grads])))] if grads else []

    def on_train_batch_start(self, *_: Any) -> None:
        self.started += 1

    def on_train_batch_end(self, *_: Any) -> None:
        self.ended += 1


def rng() -> list[Any]:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


def state_of(trainer: pl.Trainer, module: nn.Module) -> dict[str, Any]:
    """Every number that training changes, as plain values."""
    tensors = {f"module.{name}": value.tolist() for name, value in module.state_dict().items()}
    optimizer = trainer.optimizers[0].state_dict()
    moments = {
        f"state.{i}.{name}": value.tolist() for i, own in optimizer["state"].items() for name, value in own.items()
    }
    plain = {"groups": optimizer["param_groups"], "rng": rng(), "step": trainer.global_step}
    return {
        **tensors,
        **moments,
        **plain,
        "schedule": trainer.lr_scheduler_configs[0].scheduler.state_dict()["last_epoch"],
    }


def start_of_sweep(step: int, error: BaseException) -> pl.Callback:
    """Raises in one of the sweep's steps."""

    class Interrupt(pl.Callback):
        steps = 0

        def on_before_optimizer_step(self, *_: Any) -> None:
            self.steps += 1
            if self.steps == step:
                raise error

    return Interrupt()


@pytest.mark.parametrize(
    ("epoch", "workers", "options"),
    [
        (0, 0, {}),
        (1, 0, {}),
        (1, 0, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}),
        (0, 0, {"precision": "bf16-mixed"}),
        (1, 1, {}),
    ],
)
def test_training_continues_as_without_a_range_test(
    fit, tmp_path: Path, epoch: int, workers: int, options: Any
) -> None:
    ends = []
    for callbacks in ([], [LRRangeTest(epoch=epoch, num_steps=12, end_lr=1.0, stop_factor=1e3)]):
        pl.seed_everything(3, verbose=False)
        module = Noisy(workers)
        trainer = fit(module, *callbacks, epochs=3, **options)
        ends.append((state_of(trainer, module), module.logged))
    assert ends[0] == ends[1]
    assert callbacks[0].result.restarts == (3 if options.get("accumulate_grad_batches") else 2)
    assert not list(tmp_path.iterdir())


def test_generators_of_loaders_are_restored(fit) -> None:
    def trained(*callbacks: pl.Callback) -> torch.Tensor:
        module, generator = Noisy(), torch.Generator().manual_seed(5)
        loader = DataLoader(torch.randn(20, 7, generator=generator), batch_size=4, shuffle=True, generator=generator)  # type: ignore[arg-type]
        module.train_dataloader = lambda: loader  # type: ignore[method-assign]
        pl.seed_everything(0, verbose=False)
        fit(module, *callbacks, epochs=2)
        return module.head.weight

    assert torch.equal(trained(), trained(LRRangeTest(num_steps=12, end_lr=1.0, epoch=1, stop_factor=1e3)))


@pytest.mark.parametrize("error", [RuntimeError("power cut"), KeyboardInterrupt()])
def test_everything_is_restored_after_an_exception(tmp_path: Path, error: BaseException) -> None:
    module, trainer = Noisy(), make_trainer(tmp_path)
    trainer.callbacks.append(start_of_sweep(6, error))  # type: ignore[attr-defined]
    before = {name: value.clone() for name, value in module.state_dict().items()}, rng()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(type(error)):
        range_test(trainer, module, num_steps=20, stop_factor=1e3)
    assert all(torch.equal(value, before[0][name]) for name, value in module.state_dict().items())
    assert rng() == before[1]
    assert module.mean.weight == 0
    assert signal.getsignal(signal.SIGINT) is handler
    assert not list(tmp_path.iterdir())


class Wilful(Noisy):
    """Steps its schedule itself, and writes to its logger."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.lr_schedulers().step()
        self.logger.log_metrics({"mine": float(batch.sum())}, step=self.global_step)
        return super().training_step(batch, batch_idx)


class Notes(DummyLogger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[Any] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.logged.append((dict(metrics), step))


def test_sigterm_ends_a_range_test(tmp_path: Path) -> None:
    module, trainer = Noisy(), make_trainer(tmp_path)

    class Sender(pl.Callback):
        def on_before_zero_grad(self, *_: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.callbacks.append(Sender())  # type: ignore[attr-defined]
    with pytest.raises(SIGTERMException):
        range_test(trainer, module, num_steps=20, stop_factor=1e3)


def test_loggers_and_schedules_are_not_affected(tmp_path: Path) -> None:
    logged, schedules = [], []
    for callbacks in ((), (LRRangeTest(num_steps=12, end_lr=1.0, epoch=1, stop_factor=1e3),)):
        notes = Notes()
        pl.seed_everything(0, verbose=False)
        trainer = make_trainer(tmp_path, *callbacks, max_epochs=2, logger=notes, log_every_n_steps=1)
        trainer.fit(Wilful())
        logged.append(notes.logged)
        schedules.append(trainer.lr_scheduler_configs[0].scheduler.last_epoch)
    assert logged[0] == logged[1]
    assert schedules[0] == schedules[1]


class Order(Sampler[int]):
    """Records the epoch of each start."""

    def __init__(self) -> None:
        self.epoch, self.begun = 0, []

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Any:
        self.begun.append(self.epoch)
        yield from range(5)


def test_restarted_data_has_another_order_and_the_epoch_its_own(fit) -> None:
    module, order = Dictated(lambda step: 1.0), Order()
    module.train_dataloader = lambda: DataLoader(torch.zeros(5, 1), batch_size=1, sampler=order)  # type: ignore
    fit(module, LRRangeTest(num_steps=12, epoch=1), epochs=3, limit_val_batches=0)
    assert order.begun == [0, 1, 2, 3, 1, 2]


def test_frozen_groups_are_trainable_again(tmp_path: Path, network) -> None:
    freezing = PhasedFinetuning([PhaseSettings(epochs=1, unfreeze="heads")], network.network.layer_groups())
    range_test(make_trainer(tmp_path, freezing, max_epochs=1), network, num_steps=10)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(each.training for each in network.modules())


def make_trainer(folder: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        callbacks=list(callbacks),
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"num_sanity_val_steps": 0, "max_epochs": 4, "logger": False, **options},
    )


@pytest.mark.filterwarnings("ignore:Found 1 module.* in eval mode")
def test_the_module_is_restored(tmp_path: Path) -> None:
    module = Noisy()
    module.body[0].requires_grad_(False)
    module.body[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags = [parameter.requires_grad for parameter in module.parameters()], [each.training for each in module.modules()]
    random_before = rng()
    result = range_test(make_trainer(tmp_path), module, num_steps=30, end_lr=0.1, stop_factor=1e3)
    assert len(result.lrs) == 30
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert flags == (
        [parameter.requires_grad for parameter in module.parameters()],
        [each.training for each in module.modules()],
    )
    assert all(parameter.grad is None for parameter in module.parameters())
    assert rng() == random_before
    assert not list(tmp_path.iterdir())


def test_one_factor_scales_all_lrs_without_schedule_and_momentum(tmp_path: Path) -> None:
    spy = Spy()
    result = range_test(make_trainer(tmp_path, spy), Noisy(), start_lr=1e-6, end_lr=1e-2, num_steps=13, stop_factor=1e3)
    body, head = np.array(spy.lrs).T
    np.testing.assert_allclose(head, 10.0 ** np.linspace(-6, -2, 13))
    np.testing.assert_allclose(body, head / 10)
    np.testing.assert_allclose(result.lrs, head)
    assert set(spy.momenta) == {0.95}  # where OneCycleLR starts it
    assert (spy.started, spy.ended) == (13, 0)


class FiveLines(pl.LightningModule):
    """A module that knows nothing of this package, but for its optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.layer(batch) - 3 * batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return Ranger(self.parameters(), lr=1e-2)


def test_callback_and_optimizer_serve_any_lightning_script(tmp_path: Path) -> None:
    """The public imports find an lr for a five-line module, and training with it goes on undisturbed."""
    torch.manual_seed(0)
    data: Any = DataLoader(torch.linspace(-1, 1, 64).view(64, 1)[torch.randperm(64)], batch_size=32)
    fits = []
    for callbacks in ([], [mask_lightning.LRRangeTest(num_steps=60, start_lr=1e-5, end_lr=10.0)]):
        pl.seed_everything(0, verbose=False)
        module = FiveLines()
        make_trainer(tmp_path, *callbacks, max_epochs=1).fit(module, data)
        fits.append(module.layer.weight.item())
    assert fits[0] == fits[1]
    (test,) = callbacks
    assert test.result is not None
    assert 1e-4 < suggest(test.result).valley < 10.0


class Dictated(pl.LightningModule):
    """Has the given losses whatever the lr is; gradients are 1."""

    def __init__(self, losses: Callable[[int], float], lr: float = 0.1, batches: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.losses, self.lr, self.batches, self.seen = losses, lr, batches, 0

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        loss = self.weight.sum() - self.weight.detach().sum() + self.losses(self.seen)
        self.seen += 1
        return loss

    def validation_step(self, batch: torch.Tensor) -> None:
        raise AssertionError("validated")

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        return DataLoader(torch.zeros(self.batches, 1), batch_size=1)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[torch.Tensor]:
        return self.train_dataloader()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=self.lr)


def test_a_constant_loss_gives_a_flat_curve(tmp_path: Path) -> None:
    result = range_test(make_trainer(tmp_path), Dictated(lambda step: 1.7), num_steps=50)
    np.testing.assert_allclose(result.losses, 1.7, rtol=1e-6)
    assert (result.stopped, len(result.lrs), result.restarts) == ("completed", 50, 9)


def test_the_average_equals_pandas(tmp_path: Path) -> None:
    import pandas as pd

    losses = np.random.default_rng(0).uniform(1, 2, 30)
    result = range_test(make_trainer(tmp_path), Dictated(lambda step: losses[step]), num_steps=30, smoothing=0.9)
    np.testing.assert_allclose(result.raw_losses, losses, rtol=1e-6)
    expected = pd.Series(losses).ewm(alpha=0.1, adjust=True).mean()
    np.testing.assert_allclose(result.losses, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("losses", "points"),
    [
        (lambda step: 1.0 if step < 20 else 4.1, 21),
        (lambda step: 1.0 if step < 20 else 3.9, 40),
        (lambda step: -2.0 if step < 20 else 4.1, 21),  # three times its size above the best
        (lambda step: -2.0 if step < 20 else -0.1, 40),
        (lambda step: 0.5 if step < 15 else math.nan, 16),
        (lambda step: math.inf, 1),
        (lambda step: math.nan, 1),
    ],
)
def test_it_stops_when_the_loss_diverges(tmp_path: Path, losses: Callable[[int], float], points: int) -> None:
    result = range_test(make_trainer(tmp_path), Dictated(losses), num_steps=40, smoothing=0.0)
    assert len(result.lrs) == len(result.losses) == len(result.raw_losses) == points
    assert result.stopped == ("diverged" if points < 40 else "completed")


def test_accumulation_and_clipping_are_those_of_the_fit(tmp_path: Path) -> None:
    """5 batches, 2 to a step: the last of a pass steps alone, as in Lightning."""
    spy = Spy()
    module = Dictated(lambda step: 1.0 + step % 5)
    trainer = make_trainer(tmp_path, spy, accumulate_grad_batches=2, gradient_clip_val=0.25)
    result = range_test(trainer, module, num_steps=12)
    assert result.raw_losses == pytest.approx([1.5, 3.5, 5.0] * 4)
    assert result.restarts == 3
    assert module.seen == 20
    assert spy.grads == pytest.approx([0.25] * 11, rel=1e-5)


def test_the_batch_limit_of_the_fit_applies(tmp_path: Path) -> None:
    module = Dictated(lambda step: 1.0)
    assert range_test(make_trainer(tmp_path, limit_train_batches=2), module, num_steps=10).restarts == 4


@pytest.mark.parametrize("epoch", [0, 1])
def test_only_trainable_groups_are_swept_in_any_phase(fit, network, epoch: int) -> None:
    phases = [PhaseSettings(epochs=1, unfreeze="heads"), PhaseSettings(epochs=1, unfreeze={"last": 1})]
    spy, test = Spy(), LRRangeTest(epoch=epoch, num_steps=10, end_lr=1e-2)
    frozen: list[dict[str, torch.Tensor]] = []

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
            state = pl_module.state_dict()
            frozen.append({name: value.clone() for name, value in state.items() if "layer1" in name})

    fit(network, PhasedFinetuning(phases, network.network.layer_groups()), test, spy, Watch(), epochs=2)
    names = [group["name"] for group in network.trainer.optimizers[0].param_groups]
    swept = spy.lrs[3 * epoch : 3 * epoch + 10]
    opened = {name.split(".")[0] for name, first in zip(names, swept[-1], strict=True) if first > 0}
    assert opened == ({"heads"} if epoch == 0 else {"block4", "heads"})
    assert all(torch.equal(value, frozen[0][name]) for each in frozen for name, value in each.items())
    assert test.result is not None
    assert test.result.lrs[-1] == pytest.approx(1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_lr": 1.0, "end_lr": 1.0}, "end_lr must be in .1.0, inf., got 1.0"),
        ({"start_lr": 1.0, "end_lr": 0.1}, "end_lr must be in"),
        ({"start_lr": 0.0}, "start_lr must be in"),
        ({"num_steps": 9}, "num_steps must be in .10, inf., got 9"),
        ({"smoothing": 1.0}, "smoothing must be"),
        ({"stop_factor": 1.0}, "stop_factor must be"),
    ],
)
def test_options_out_of_range_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LRRangeTest(**options)


class Endless(torch.utils.data.IterableDataset[torch.Tensor]):
    """An iterable without length."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(torch.zeros(self.batches, 1))


@pytest.mark.filterwarnings("ignore:Total length of .*:UserWarning")
@pytest.mark.parametrize("data", [torch.zeros(0, 1), Endless(0)])
def test_an_empty_loader_is_an_error(tmp_path: Path, data: Any) -> None:
    module = Dictated(lambda step: 1.0)
    module.train_dataloader = lambda: DataLoader(data, batch_size=1)  # type: ignore[method-assign]
    with pytest.raises(RangeTestError, match=r"expected batches.*check the training data"):
        range_test(make_trainer(tmp_path), module)


def test_an_iterable_without_a_length_is_restarted(tmp_path: Path) -> None:
    module = Dictated(lambda step: 1.0)
    module.train_dataloader = lambda: DataLoader(Endless(4), batch_size=1)  # type: ignore[method-assign]
    assert range_test(make_trainer(tmp_path), module, num_steps=10).restarts == 2


def test_an_lr_of_zero_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RangeTestError, match=r"an lr above 0, found none; give the optimizer an lr"):
        range_test(make_trainer(tmp_path), Dictated(lambda step: 1.0, lr=0.0))


def test_a_warm_up_from_zero_is_swept(tmp_path: Path) -> None:
    module = Dictated(lambda step: 1.0)

    def configure() -> Any:
        optimizer = torch.optim.SGD([module.weight], lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 100)]

    module.configure_optimizers = configure  # type: ignore[method-assign]
    assert len(range_test(make_trainer(tmp_path), module, num_steps=10).lrs) == 10


def test_manual_optimization_is_an_error(tmp_path: Path) -> None:
    module = Dictated(lambda step: 1.0)
    module.automatic_optimization = False
    with pytest.raises(RangeTestError, match="under manual optimization"):
        range_test(make_trainer(tmp_path), module)


class Line(pl.LightningModule):
    """A straight line that writes its own losses and those of the range test to a file."""

    def __init__(self, test: LRRangeTest, folder: Path) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(1, 1)
        self.test, self.folder, self.own = test, folder, []
        self.before = self.layer.weight.item()

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        loss = (self.layer(batch) - 1).square().mean()
        self.own.append(loss.item())
        return loss

    def on_train_epoch_start(self) -> None:
        same = self.before == self.layer.weight.item()
        seen = [self.own, self.test.result.raw_losses, self.test.result.losses, same]
        (self.folder / f"{self.trainer.global_rank}.json").write_text(json.dumps(seen))

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        return DataLoader(torch.arange(16.0).view(16, 1), batch_size=4)  # type: ignore[arg-type]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.slow
def test_two_processes_see_one_averaged_loss(tmp_path: Path) -> None:
    test = LRRangeTest(num_steps=10, start_lr=1e-6, end_lr=1e-3)
    make_trainer(tmp_path, test, devices=2, strategy="ddp_fork", max_epochs=1).fit(Line(test, tmp_path))
    (own, seen, smoothed, same), other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert other[1:] == [seen, smoothed, same]
    assert same
    assert own != other[0]
    np.testing.assert_allclose(seen, np.mean([own, other[0]], axis=0), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*before.*optimizer.step")  # the scaler skips first steps
def test_the_grad_scaler_is_restored(fit) -> None:
    def trained(*callbacks: pl.Callback) -> tuple[dict[str, Any], torch.Tensor]:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=2)
        plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
        pl.seed_everything(0, verbose=False)
        module = Noisy()
        fit(module, *callbacks, epochs=2, plugins=[plugin])
        return scaler.state_dict(), module.head.weight

    test = LRRangeTest(num_steps=12, end_lr=1e-3, epoch=1, stop_factor=1e3)
    (scale, weight), (expected, other) = trained(test), trained()
    assert scale == expected
    assert torch.equal(weight, other)


REFERENCE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "fastai_reference.json").read_text())[
    "lr_suggestions"
]
CURVES = REFERENCE["curves"]
RULES = {"valley": valley, "steep": steep, "slide": slide, "minimum": minimum}


def result_of(losses: Any, *, num_steps: int = 100, stopped: Any = "diverged") -> RangeTestResult:
    """The curve of a sweep like those of the reference; raw losses are those whose debiased average it is."""
    steps = np.arange(len(losses))
    lrs = REFERENCE["start_lr"] * (REFERENCE["end_lr"] / REFERENCE["start_lr"]) ** (steps / REFERENCE["num_it"])
    averages = np.asarray(losses, dtype=float) * (1 - 0.98 ** (steps + 1))
    raw = np.diff(averages, prepend=0) / 0.02 + np.concatenate([[0.0], averages])[:-1]
    values = (tuple(np.asarray(each, dtype=float).tolist()) for each in (lrs, losses, raw))
    return RangeTestResult(*values, num_steps, stopped, 0)  # type: ignore[call-arg]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("curve", CURVES, ids=[f"{i}-{curve['kind']}" for i, curve in enumerate(CURVES)])
def test_every_rule_equals_fastai(curve: dict[str, Any], rule: str) -> None:
    result = result_of(curve["losses"])
    points = usable(result.lrs, result.losses, num_steps=100)
    assert RULES[rule](*points) == pytest.approx(curve["suggestions"][rule], rel=1e-6)


@pytest.mark.parametrize("curve", CURVES, ids=[f"{i}-{curve['kind']}" for i, curve in enumerate(CURVES)])
def test_all_four_are_suggested_except_for_a_flat_curve(curve: dict[str, Any]) -> None:
    result = result_of(curve["losses"])
    if curve["kind"] == "flat":
        with pytest.raises(NoSuggestionError, match=r"flat: .* set the lr by hand"):
            suggest(result)
    else:
        found = suggest(result)
        assert {rule: getattr(found, rule) for rule in RULES} == pytest.approx(curve["suggestions"], rel=1e-6)


def test_usable_points_equal_fastai() -> None:
    lrs, losses = usable(range(40), range(40, 80), num_steps=100)
    assert lrs.tolist() == list(range(10, 35))
    assert losses.tolist() == list(range(50, 75))


STEPS = np.linspace(0, 1, 100)
NOISE = np.random.default_rng(0).normal(0, 0.01, 100)


@pytest.mark.parametrize(
    ("losses", "reason", "remedy"),
    [
        (np.full(100, 1.7), "flat", "set the lr by hand"),
        (1.7 + NOISE, "flat", "set the lr by hand"),
        (1.7 + NOISE + 5 * (STEPS > 0.9), "flat", "set the lr by hand"),
        (1.7 + STEPS, "rising", "lower start_lr"),
        (1.7 + STEPS + NOISE, "rising", "lower start_lr"),
        (np.exp(3 * STEPS), "rising", "lower start_lr"),
        (1.7 - STEPS[:18], "too short", "found 3; lower start_lr, or raise num_steps"),
        ([1.7], "too short", "found 0"),
        ([math.nan], "NaN", "the loss is nan at step 1; check photos"),
        ([2.0, math.inf], "NaN", "the loss is inf at step 2"),
        (np.where(STEPS > 0.5, math.nan, 1.7), "NaN", "at step 51"),
    ],
)
def test_curves_without_a_suggestion_are_errors(losses: Any, reason: str, remedy: str) -> None:
    with pytest.raises(NoSuggestionError, match=f"no learning rate suggestion, {reason}: .*{remedy}") as caught:
        suggest(result_of(losses))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "losses",
    [
        1.7 - 0.05 * np.clip(STEPS - 0.5, 0, 0.3),  # little, but clearly
        1.7 - np.clip(STEPS - 0.5, 0, 0.3) + NOISE,
        -1.7 - np.clip(STEPS - 0.5, 0, 0.3),
        [*(1.7 - STEPS[:80]), math.nan],  # the last points are not used
        np.linspace(2, 1, 19),
    ],
)
def test_falling_curves_have_a_suggestion(losses: Any) -> None:
    result = result_of(losses, num_steps=len(losses))
    found = suggest(result)
    assert all(result.lrs[0] / 10 < getattr(found, rule) <= result.lrs[-1] for rule in RULES)


def smoothed(raw: Any) -> list[float]:
    """The debiased moving average, by its definition."""
    weights = 0.98 ** np.arange(len(raw))
    return [float(np.average(raw[: i + 1], weights=weights[: i + 1][::-1])) for i in range(len(raw))]


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_curve_of_heads_alone_has_a_suggestion(seed: int) -> None:
    """The smoothed loss falls by 5 % only, the raw one by twice its noise."""
    raw = 1.05 - 0.16 * ((STEPS > 0.4) & (STEPS < 0.6)) + 4 * (STEPS > 0.9)
    suggest(result_of(smoothed(raw + np.random.default_rng(seed).normal(0, 0.08, 100))))


@pytest.mark.parametrize("seed", range(5))
def test_pure_noise_has_no_suggestion(seed: int) -> None:
    """A smoothed random walk."""
    raw = 2.5 + np.random.default_rng(seed).normal(0, 0.1, 100)
    with pytest.raises(NoSuggestionError):
        suggest(result_of(smoothed(raw), stopped="completed"))


def test_a_suggestion_after_the_lowest_loss_is_recognized() -> None:
    """The loss is lowest at step 50, and falls fastest in the noise after it."""
    losses = np.concatenate([np.linspace(2, 1, 51), 3 + 1.5 * (np.arange(40) % 2)])
    result = result_of(losses)
    found = suggest(result)
    assert is_past_lowest(result, found.steep)
    assert not is_past_lowest(result, found.valley)
