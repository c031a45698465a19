"""Save and restore the training state bit for bit, and take optimizer steps that leave no trace in a running fit."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain, count
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import Metric

from mask_lightning.errors import RangeTestError
from mask_lightning.utils.lightning_compat import (
    discarded_logging,
    fresh_training_loader,
    is_accumulating,
    is_epoch_exhausted,
    run_training_batch,
    set_sampler_epoch,
    training_loader,
)


def rng_state() -> dict[str, Any]:
    """Random states of Python, NumPy, torch and CUDA, as plain values and tensors that a checkpoint may contain."""
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore the result of `rng_state`. States of GPUs that this machine does not have are skipped."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    for device, cuda in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(cuda, device)


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Restore the random states of Python, NumPy, torch and CUDA after the block."""
    state = rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


@contextmanager
def preserved_module(module: nn.Module) -> Iterator[None]:
    """Restore weights, buffers, gradients, `requires_grad`, train modes and torchmetrics' states after the block."""
    values = {name: tensor.detach().clone() for name, tensor in _tensors(module)}
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in module.parameters()]
    modes = [(each, each.training) for each in module.modules()]
    metrics = [(each, deepcopy(each.metric_state)) for each in module.modules() if isinstance(each, Metric)]
    for parameter, *_ in parameters:
        parameter.grad = None  # otherwise the steps would write into the preserved gradients
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in _tensors(module):
                tensor.copy_(values[name])
        for parameter, requires_grad, grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
        for each, training in modes:
            each.training = training
        for metric, state in metrics:
            for name, value in state.items():
                setattr(metric, name, value)


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and buffers with their names: moving a module to another device replaces its buffers."""
    return chain(module.named_parameters(), module.named_buffers())


@contextmanager
def preserved_fit(trainer: pl.Trainer) -> Iterator[None]:
    """Restore optimizers, schedulers, GradScaler, the loaders' generators and all counters after the block.

    Nothing that is logged in the block reaches a logger or the metrics of the epoch.
    """
    loop = trainer.fit_loop.epoch_loop
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    # Optimizers last: loading the state of a scheduler may write lrs into them.
    stateful: list[Any] = [*schedulers, *trainer.optimizers, trainer.precision_plugin]
    states = [deepcopy(each.state_dict()) for each in stateful]
    generators = [(generator, generator.get_state()) for generator in _generators(trainer)]
    batches, steps, loggers = loop.batch_progress, loop.automatic_optimization.optim_progress, trainer.loggers
    loop.batch_progress, loop.automatic_optimization.optim_progress = deepcopy(batches), deepcopy(steps)
    trainer.loggers = [DummyLogger()] if loggers else []
    try:
        with discarded_logging(trainer):
            yield
    finally:
        for each, state in zip(stateful, states, strict=True):
            each.load_state_dict(state)
        for generator, value in generators:
            generator.set_state(value)
        loop.batch_progress, loop.automatic_optimization.optim_progress = batches, steps
        trainer.loggers = loggers


def _generators(trainer: pl.Trainer) -> set[torch.Generator]:
    """Random generators that belong to training loaders and their samplers."""
    loaders = [loader for loader in training_loader(trainer).flattened if isinstance(loader, DataLoader)]
    owners = [owner for loader in loaders for owner in (loader, loader.sampler, loader.batch_sampler)]
    generators = {getattr(owner, "generator", None) for owner in owners}
    return {generator for generator in generators if isinstance(generator, torch.Generator)}


def optimizer_steps(trainer: pl.Trainer) -> Generator[tuple[int, float]]:
    """Train within a running fit without end, one optimizer step at each `next`.

    Batches, accumulation, clipping and precision are those of the fit. All hooks up to `on_train_batch_start` run, as
    callbacks may change the batch there, but not `on_train_batch_end`, where they record and save. Schedulers do not
    step. Use it within `preserved_fit`, which restores all that the steps change.

    Yields:
        How often the data was restarted, and the step's loss: the mean of the losses of its batches in all processes. A
        smaller last batch of an epoch weighs as much as the others.

    Raises:
        RangeTestError: the training loader is empty, or no batch has a loss.
        SIGTERMException: after SIGTERM.
    """
    loop = trainer.fit_loop.epoch_loop
    with fresh_training_loader(trainer) as loader:
        for restarts in count():
            losses: list[float] = []
            stepped = False
            loop.batch_progress.reset_on_run()
            for each in loader.flattened:
                set_sampler_epoch(each, trainer.current_epoch + restarts)
            for batch_idx, (batch, _, _) in enumerate(loader):
                if trainer.received_sigterm:
                    raise SIGTERMException
                loss = run_training_batch(trainer, batch, batch_idx)
                if loss is not None:
                    whole = loss * trainer.accumulate_grad_batches  # Lightning has divided by it
                    losses.append(float(trainer.strategy.reduce(whole, reduce_op="mean")))
                if losses and not is_accumulating(trainer):
                    yield restarts, sum(losses) / len(losses)
                    losses, stepped = [], True
                if is_epoch_exhausted(trainer):
                    break
            if not stepped:
                raise RangeTestError("expected batches with a loss to train on, found none; check the training data")
