"""One test per private name of Lightning: each says what breaks in mask_lightning when Lightning changes the name."""

from __future__ import annotations

import ast
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import nn
from torch.utils.data import DataLoader, Sampler

import mask_lightning
from mask_lightning.utils import lightning_compat as compat

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
]


class Line(pl.LightningModule):
    """Learns one number from three batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.hooks: list[str] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor | None:
        loss = (self.weight - 1).square().sum()
        self.log("loss", loss.detach(), on_step=False, on_epoch=True)
        return None if self.weight < -1e3 else loss

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.hooks.append("on_before_batch_transfer")
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        self.hooks.append("transfer_batch_to_device")
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.hooks.append("module.on_train_batch_start")

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        return DataLoader(torch.zeros(3, 1), batch_size=1)  # type: ignore[arg-type]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=0.1)


class Probe(pl.Callback):
    """Call a function with the trainer at a hook of the first epoch, and note the results."""

    def __init__(self, hook: str, function: Any) -> None:
        self.found: list[Any] = []
        setattr(self, hook, lambda trainer, *_: self.found.append(function(trainer)))


@pytest.fixture
def fit(tmp_path: Path):
    def fit(module: pl.LightningModule, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
        trainer = pl.Trainer(
            callbacks=list(callbacks),
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            **{"max_epochs": 1, **options},
        )
        trainer.fit(module)
        return trainer

    return fit


def test_should_accumulate(fit) -> None:
    """Without `_should_accumulate`, a checkpoint may be saved while gradients are accumulated, and loses them."""
    probe = Probe("on_train_batch_end", compat.is_accumulating)
    fit(Line(), probe, accumulate_grad_batches=2)
    assert probe.found == [True, False, False]  # the last batch of an epoch steps alone


def test_num_ready_batches_reached(fit) -> None:
    """Without `_num_ready_batches_reached`, a range test ignores `limit_train_batches` of the fit."""
    probe = Probe("on_train_batch_end", compat.is_epoch_exhausted)
    fit(Line(), probe, limit_train_batches=2)
    assert probe.found == [False, True]


def test_combined_loader(fit) -> None:
    """Without `_combined_loader`, a range test has no data, and generators of loaders are not restored."""
    module, loader = Line(), DataLoader(torch.zeros(3, 1), batch_size=1)  # type: ignore[arg-type]
    module.train_dataloader = lambda: loader  # type: ignore[method-assign]
    probe = Probe("on_train_epoch_start", lambda trainer: compat.training_loader(trainer).flattened)
    fit(module, probe)
    assert probe.found == [[loader]]


def test_iterator(fit) -> None:
    """Without DataLoader's `_iterator`, the copy shares persistent workers with the epoch, which then loses batches."""
    found = []

    def read(trainer: pl.Trainer) -> None:
        compat.training_loader(trainer).flattened[0]._iterator = "of the epoch"
        with compat.fresh_training_loader(trainer) as loader:
            found.append(loader.flattened[0]._iterator)
            found.append(len(list(loader)))
        found.append(compat.training_loader(trainer).flattened[0]._iterator)
        compat.training_loader(trainer).flattened[0]._iterator = None

    trainer = fit(Line(), Probe("on_train_epoch_start", read))
    assert found == [None, 3, "of the epoch"]
    assert trainer.global_step == 3


def test_set_sampler_epoch() -> None:
    """Without `_set_sampler_epoch`, restarts of a range test repeat one order, and the epoch does not get its own."""

    class Epochs(Sampler[int]):
        def __init__(self) -> None:
            self.epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Any:
            return iter(range(3))

    sampler = Epochs()
    compat.set_sampler_epoch(DataLoader(torch.zeros(3, 1), sampler=sampler), 5)  # type: ignore[arg-type]
    assert sampler.epoch == 5


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("_on_before_batch_transfer", "on_before_batch_transfer"),  # device augmentation would not run
        ("_call_strategy_hook", "transfer_batch_to_device"),  # batches would stay on the CPU
        ("_call_callback_hooks", "callback.on_train_batch_start"),  # photos would not be resized or mixed
        ("_call_lightning_module_hook", "module.on_train_batch_start"),  # hooks of a user's module would not run
    ],
)
def test_hooks_of_a_batch(fit, name: str, hook: str) -> None:
    """Without one of these names, a range test measures other batches than the fit trains with."""
    module = Line()

    class Steps(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            module.hooks.append("callback.on_train_batch_start")

        def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            compat.run_training_batch(trainer, torch.zeros(1, 1), 0)
            raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        fit(module, Steps())
    assert module.hooks.count(hook) == 1
    assert name in compat.PRIVATE_NAMES


def test_build_kwargs(fit) -> None:
    """Without `_build_kwargs`, a range test passes wrong arguments to `training_step`."""
    arguments = []

    class Records(Line):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor | None:
            arguments.append((batch.tolist(), batch_idx))
            return super().training_step(batch, batch_idx)

    def step(trainer: pl.Trainer) -> None:
        loss = compat.run_training_batch(trainer, torch.full((1, 1), 7.0), 2)
        assert loss is not None
        assert loss.item() == 1.0

    fit(Records(), Probe("on_train_epoch_start", step))
    assert arguments[0] == ([[7.0]], 2)


def test_logger_connector_and_results(fit) -> None:
    """Without `_logger_connector`, `_results` and `_first_loop_iter`, steps of a range test enter the epoch's metrics.

    `_first_loop_iter` decides whether the first real batch resets the metrics of the epoch before.
    """

    def step(trainer: pl.Trainer) -> bool | None:
        first = trainer._logger_connector._first_loop_iter
        with compat.discarded_logging(trainer):
            trainer.lightning_module.weight.data.fill_(100.0)
            compat.run_training_batch(trainer, torch.zeros(1, 1), 0)
            trainer.lightning_module.weight.data.fill_(0.0)
            assert trainer._logger_connector._first_loop_iter is not first
        return trainer._logger_connector._first_loop_iter is first

    plain, probe = fit(Line()), Probe("on_train_epoch_start", step)
    probed = fit(Line(), probe)
    assert probe.found == [True]
    assert probed.callback_metrics["loss"] == pytest.approx(plain.callback_metrics["loss"].item())


def test_tuner_exit_exception(fit) -> None:
    """Without `_TunerExitException`, `find_lr` cannot end a fit without an error."""
    trainer = fit(Line(), Probe("on_train_epoch_start", lambda _: compat.end_fit()))
    assert trainer.global_step == 0
    assert trainer.state.finished


def test_sigterm_notifier_fn(fit) -> None:
    """Without `_sigterm_notifier_fn`, Lightning's own handler waits for processes that wait for this one."""
    received = []

    def install(trainer: pl.Trainer) -> None:
        compat.set_sigterm_handler(trainer, lambda number, _: received.append(number))

    trainer = fit(
        Line(),
        Probe("on_fit_start", install),
        Probe("on_train_epoch_start", lambda _: os.kill(os.getpid(), signal.SIGTERM)),
    )
    assert received == [signal.SIGTERM]
    assert trainer.global_step == 3


def test_signal_connector(fit) -> None:
    """Without `_signal_connector`, SIGTERM does not end a range test."""
    with pytest.raises(SIGTERMException):
        fit(
            Line(),
            Probe("on_fit_start", compat.record_sigterm),
            Probe("on_train_epoch_start", lambda _: os.kill(os.getpid(), signal.SIGTERM)),
        )


def test_this_is_the_only_module_that_uses_private_names() -> None:
    """Other modules use private names of their own objects only, so that an upgrade of Lightning touches one file."""
    package = Path(mask_lightning.__file__).parent
    used = {}
    for path in package.rglob("*.py"):
        found = set(private_names(ast.parse(path.read_text()))) & set(compat.PRIVATE_NAMES)
        if found:
            used[str(path.relative_to(package))] = found
    assert used == {"utils/lightning_compat.py": set(compat.PRIVATE_NAMES)}


def test_no_module_imports_private_names_of_lightning() -> None:
    package = Path(mask_lightning.__file__).parent
    importing = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith(("pytorch_lightning", "lightning_fabric", "torchmetrics"))
        and any(alias.name.startswith("_") for alias in node.names)
    }
    assert importing == {"utils/lightning_compat.py"}


def private_names(tree: ast.Module) -> list[str]:
    """Names with one leading underscore that are attributes of something else than `self`, or imported."""
    attributes = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    return [name for name in (*attributes, *imported) if name.startswith("_") and not name.startswith("__")]
