"""The only module that uses private names of Lightning and of torch's DataLoader.

Every function hides one or a few private names behind a stable meaning. `tests/utils/test_lightning_compat.py` has a
test per name that says what breaks when a new version of Lightning renames it; `PRIVATE_NAMES` lists them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from types import FrameType
from typing import Any, NoReturn

import pytorch_lightning as pl
from lightning_fabric.utilities.data import _set_sampler_epoch
from pytorch_lightning.trainer import call
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from pytorch_lightning.utilities.exceptions import _TunerExitException
from torch import Tensor
from torch.utils.data import DataLoader

PRIVATE_NAMES = (
    "_TunerExitException",
    "_build_kwargs",
    "_call_callback_hooks",
    "_call_lightning_module_hook",
    "_call_strategy_hook",
    "_combined_loader",
    "_first_loop_iter",
    "_iterator",
    "_logger_connector",
    "_num_ready_batches_reached",
    "_on_before_batch_transfer",
    "_results",
    "_set_sampler_epoch",
    "_should_accumulate",
    "_signal_connector",
    "_sigterm_notifier_fn",
)


def is_accumulating(trainer: pl.Trainer) -> bool:
    """Return True between two optimizer steps: gradients of the latest batch are still being accumulated."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def is_epoch_exhausted(trainer: pl.Trainer) -> bool:
    """Return True once as many training batches have started as an epoch has (the length of the data or a limit)."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def training_loader(trainer: pl.Trainer) -> CombinedLoader:
    """Lightning's wrapper of all training loaders. Only exists within a fit."""
    loader = trainer.fit_loop._combined_loader
    assert loader is not None
    return loader


@contextmanager
def fresh_training_loader(trainer: pl.Trainer) -> Iterator[CombinedLoader]:
    """Copy of the training loader with iterators and workers of its own, so that the epoch loses no batch.

    On leaving, the copy's workers are shut down and the samplers are set to the current epoch again.
    """
    original = training_loader(trainer)
    loader = copy(original)
    loader.flattened = [_without_iterator(each) for each in original.flattened]
    try:
        yield loader
    finally:
        loader.reset()
        for each in original.flattened:
            set_sampler_epoch(each, trainer.current_epoch)


def _without_iterator(loader: Any) -> Any:
    if not isinstance(loader, DataLoader):
        return loader
    fresh = copy(loader)
    fresh._iterator = None  # persistent workers hang on it
    return fresh


def set_sampler_epoch(loader: Any, epoch: int) -> None:
    """Call `set_epoch` of the loader's sampler, if there is one, as Lightning does at the start of an epoch."""
    _set_sampler_epoch(loader, epoch)


def run_training_batch(trainer: pl.Trainer, batch: Any, batch_idx: int) -> Tensor | None:
    """Process one batch as Lightning's epoch loop does, without schedulers and `on_train_batch_end`.

    Returns:
        The loss, a scalar, divided by the accumulated batches as Lightning does. None if the module skips the batch.
    """
    loop, module = trainer.fit_loop.epoch_loop, trainer.lightning_module
    batch = trainer.precision_plugin.convert_input(batch)
    batch = module._on_before_batch_transfer(batch, dataloader_idx=0)
    batch = call._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=0)
    loop.batch_progress.increment_ready()
    trainer._logger_connector.on_batch_start(batch)
    call._call_callback_hooks(trainer, "on_train_batch_start", batch, batch_idx)
    call._call_lightning_module_hook(trainer, "on_train_batch_start", batch, batch_idx)
    arguments = loop._build_kwargs(OrderedDict(), batch, batch_idx)
    output = loop.automatic_optimization.run(trainer.optimizers[0], batch_idx, arguments)
    loss: Tensor | None = output.get("loss")
    return loss


@contextmanager
def discarded_logging(trainer: pl.Trainer) -> Iterator[None]:
    """Discard what is logged with `self.log` in the block; the metrics of the epoch stay as they were."""
    loop, connector = trainer.fit_loop.epoch_loop, trainer._logger_connector
    results, is_first = loop._results, connector._first_loop_iter
    loop._results = type(results)(training=True)
    try:
        yield
    finally:
        loop._results, connector._first_loop_iter = results, is_first


def end_fit() -> NoReturn:
    """End the running fit without an error, as Lightning's own tuners do. `trainer.fit` then returns normally."""
    raise _TunerExitException


def set_sigterm_handler(trainer: pl.Trainer, handler: Callable[[int, FrameType | None], None]) -> None:
    """Replace Lightning's SIGTERM handler for the coming fit; call it in `on_fit_start` or before the fit.

    Lightning's handler waits for the other processes, which may be waiting for this one. Handlers that were installed
    before the fit (by a launcher) are still called afterwards.
    """
    trainer._signal_connector._sigterm_notifier_fn = handler  # type: ignore[assignment, method-assign]


def record_sigterm(trainer: pl.Trainer) -> None:
    """Let SIGTERM only set `trainer.received_sigterm` in the coming fit; Lightning then stops after the batch."""

    def record(_: int, __: FrameType | None) -> None:
        trainer._signal_connector.received_sigterm = True

    set_sigterm_handler(trainer, record)
