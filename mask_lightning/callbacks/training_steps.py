"""Optimizer steps inside a running fit, on the trainer's own data and optimizer, that its epochs do not count."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from copy import copy
from itertools import count
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.data import _set_sampler_epoch
from pytorch_lightning.trainer import call
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from mask_lightning.errors import RangeTestError


def optimizer_steps(trainer: pl.Trainer) -> Generator[tuple[int, float]]:
    """Train without end, one optimizer step at each `next`: how often the data has run out, and the step's loss.

    Batches, accumulation, clipping and precision are those of the fit; a batch passes all hooks up to
    `on_train_batch_start`, where callbacks may change it, but not `on_train_batch_end`, where they record and save. The
    loss is the mean over the accumulated batches and all processes. Schedulers are not stepped.

    Raises:
        RangeTestError: the training loader is empty, or no batch has a loss.
    """
    loop = trainer.fit_loop.epoch_loop
    with _fresh_loader(trainer) as loader:
        for restarts in count():
            losses: list[float] = []
            stepped = False
            loop.batch_progress.reset_on_run()
            for each in loader.flattened:
                _set_sampler_epoch(each, trainer.current_epoch + restarts)
            for batch_idx, (batch, _, _) in enumerate(loader):
                if trainer.received_sigterm:
                    raise SIGTERMException
                losses += _train(trainer, batch, batch_idx)
                if losses and not loop._should_accumulate():
                    yield restarts, sum(losses) / len(losses)
                    losses, stepped = [], True
                if loop._num_ready_batches_reached():
                    break
            if not stepped:
                raise RangeTestError("expected batches with a loss to train on, found none; check the training data")


@contextmanager
def _fresh_loader(trainer: pl.Trainer) -> Iterator[CombinedLoader]:
    """The training loader with iterators and workers of its own: those of the epoch must not lose a batch."""
    own = trainer.fit_loop._combined_loader
    assert own is not None
    loader = copy(own)
    loader.flattened = [_without_iterator(each) for each in own.flattened]
    try:
        yield loader
    finally:
        loader.reset()
        for each in own.flattened:
            _set_sampler_epoch(each, trainer.current_epoch)


def _without_iterator(loader: Any) -> Any:
    if not isinstance(loader, DataLoader):
        return loader
    fresh = copy(loader)
    fresh._iterator = None
    return fresh


def _train(trainer: pl.Trainer, batch: Any, batch_idx: int) -> list[float]:
    """What Lightning's epoch loop does with a batch, up to the loss; nothing where the module skips the batch."""
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
    if output.get("loss") is None:
        return []
    loss = output["loss"] * trainer.accumulate_grad_batches  # which Lightning has divided it by
    return [float(trainer.strategy.reduce(loss, reduce_op="mean"))]
