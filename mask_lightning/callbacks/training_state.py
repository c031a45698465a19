"""What training steps change, put back bit for bit: also after an exception, also after Ctrl-C."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import Metric


def rng_state() -> dict[str, Any]:
    """The random states of Python, NumPy, torch and CUDA, as values that a checkpoint may hold."""
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """The inverse of `rng_state`; GPUs that are not here are left out."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    for device, cuda in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(cuda, device)


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Put the random states of Python, NumPy, torch and CUDA back."""
    state = rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


@contextmanager
def preserved_module(module: nn.Module) -> Iterator[None]:
    """Put weights, buffers (BatchNorm's statistics), gradients, what learns, train modes and metrics back."""
    values = {name: tensor.detach().clone() for name, tensor in _tensors(module)}
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in module.parameters()]
    modes = [(each, each.training) for each in module.modules()]
    metrics = [(each, deepcopy(each.metric_state)) for each in module.modules() if isinstance(each, Metric)]
    for parameter, *_ in parameters:
        parameter.grad = None  # else the steps would write into what is kept
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in _tensors(module):
                tensor.copy_(values[name])
        for parameter, learns, grad in parameters:
            parameter.requires_grad_(learns)
            parameter.grad = grad
        for each, training in modes:
            each.training = training
        for metric, state in metrics:
            for name, value in state.items():
                setattr(metric, name, value)


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """By name: moving a module to another device replaces its buffers."""
    return chain(module.named_parameters(), module.named_buffers())


@contextmanager
def preserved_fit(trainer: pl.Trainer) -> Iterator[None]:
    """Put optimizers, schedulers, the GradScaler, the loaders' generators and all counts of a running fit back.

    Within, nothing reaches a logger or the metrics of the epoch.
    """
    loop, connector = trainer.fit_loop.epoch_loop, trainer._logger_connector
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    # The optimizers last: a scheduler may write lrs into them.
    stateful: list[Any] = [*schedulers, *trainer.optimizers, trainer.precision_plugin]
    states = [deepcopy(each.state_dict()) for each in stateful]
    generators = [(generator, generator.get_state()) for generator in _generators(trainer)]
    batches, steps = loop.batch_progress, loop.automatic_optimization.optim_progress
    results, loggers, is_first = loop._results, trainer.loggers, connector._first_loop_iter
    loop.batch_progress, loop.automatic_optimization.optim_progress = deepcopy(batches), deepcopy(steps)
    loop._results = type(results)(training=True)
    trainer.loggers = [DummyLogger()] if loggers else []
    try:
        yield
    finally:
        for each, state in zip(stateful, states, strict=True):
            each.load_state_dict(state)
        for generator, value in generators:
            generator.set_state(value)
        loop.batch_progress, loop.automatic_optimization.optim_progress = batches, steps
        loop._results, trainer.loggers, connector._first_loop_iter = results, loggers, is_first


def _generators(trainer: pl.Trainer) -> set[torch.Generator]:
    """Those that training loaders and their samplers draw from, where they have their own."""
    combined = trainer.fit_loop._combined_loader
    assert combined is not None
    loaders = [loader for loader in combined.flattened if isinstance(loader, DataLoader)]
    owners = [owner for loader in loaders for owner in (loader, loader.sampler, loader.batch_sampler)]
    generators = {getattr(owner, "generator", None) for owner in owners}
    return {generator for generator in generators if isinstance(generator, torch.Generator)}
