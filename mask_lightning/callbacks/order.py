"""Order of the callbacks in a trainer: declared by each class, sorted and checked by code."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, auto
from itertools import pairwise
from typing import ClassVar

import pytorch_lightning as pl

from mask_lightning.errors import ConfigError


class Order(IntEnum):
    """Position of a callback. Lightning runs every hook over the callbacks in the order of its list."""

    SYNCHRONIZE = auto()  # before anything reads the weights of a step
    ACCUMULATE = auto()
    SCORE = auto()
    FREEZE = auto()
    RESIZE = auto()
    MIX = auto()  # photos of the size that the network sees
    RANGE_TEST = auto()  # after all that changes how a batch is learned, before anything is timed or recorded
    AVERAGE = auto()  # a checkpoint contains the average after the same step
    STOP = auto()  # a checkpoint contains the count of validations without improvement
    PRUNE = auto()
    CHECK = auto()  # a diverged run raises before its weights are recorded or saved
    MEASURE = auto()
    BEST = auto()
    HISTORY = auto()  # a crash before the checkpoint repeats the epoch and replaces its row
    LAST = auto()  # after all that changes state in the same hook
    INTERRUPT = auto()  # ends the fit, so that later callbacks are not called


class OrderedCallback(pl.Callback):
    """Callback with a position. A trainer that lists two of them in the wrong order refuses to start.

    Subclasses set `order`. Place this class before other bases: `class X(OrderedCallback, EarlyStopping)`.

    Raises:
        ConfigError: at the start of the fit, for callbacks in the wrong order.
    """

    order: ClassVar[Order]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the order of the trainer's callbacks."""
        check_order(trainer.callbacks)  # type: ignore[attr-defined]
        super().setup(trainer, pl_module, stage)


def sort_callbacks(callbacks: Iterable[pl.Callback]) -> list[pl.Callback]:
    """Sort by `order`. Callbacks without one (Lightning's and the user's) follow, in the order given.

    Example:
        >>> from mask_lightning.callbacks.phased_finetuning import PhasedFinetuning
        >>> from mask_lightning.callbacks.progress import Throughput
        >>> callbacks = sort_callbacks([Throughput(), PhasedFinetuning([], {})])
        >>> [type(callback).__name__ for callback in callbacks]
        ['PhasedFinetuning', 'Throughput']
    """
    callbacks = list(callbacks)
    ordered = [callback for callback in callbacks if isinstance(callback, OrderedCallback)]
    others = [callback for callback in callbacks if not isinstance(callback, OrderedCallback)]
    return [*sorted(ordered, key=lambda callback: callback.order), *others]


def insert_in_order(callbacks: list[pl.Callback], callback: OrderedCallback) -> None:
    """Insert before the first callback of a later position, or at the end."""
    later = (isinstance(each, OrderedCallback) and each.order > callback.order for each in callbacks)
    callbacks.insert(next((i for i, is_later in enumerate(later) if is_later), len(callbacks)), callback)


def check_order(callbacks: Iterable[pl.Callback]) -> None:
    """Check that no position is followed by an earlier one; callbacks without a position may stand anywhere.

    Raises:
        ConfigError: two callbacks are in the wrong order.
    """
    ordered = [callback for callback in callbacks if isinstance(callback, OrderedCallback)]
    for first, second in pairwise(ordered):
        if first.order > second.order:
            raise ConfigError(
                f"expected the callback {type(second).__name__} before {type(first).__name__}, found it after; "
                "reorder them, or pass the list through mask_lightning.callbacks.order.sort_callbacks"
            )
