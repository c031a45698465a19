"""The order of callbacks is enforced: sorted by `build_trainer`, checked by every trainer."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
import pytorch_lightning as pl

from mask_lightning import callbacks as package
from mask_lightning.callbacks.batch_transforms import ProgressiveResizing
from mask_lightning.callbacks.checkpoints import LastCheckpoint
from mask_lightning.callbacks.interruption import Interruption
from mask_lightning.callbacks.lr_range_test import LRRangeTest
from mask_lightning.callbacks.order import Order, OrderedCallback, check_order, insert_in_order, sort_callbacks
from mask_lightning.callbacks.phased_finetuning import PhasedFinetuning
from mask_lightning.callbacks.progress import ProgressBar, Throughput
from mask_lightning.callbacks.weight_averaging import ExponentialAverage
from mask_lightning.errors import ConfigError


def callback_classes() -> list[type[Any]]:
    """All callbacks that the package defines."""
    modules = [import_module(f"{package.__name__}.{each.name}") for each in iter_modules(package.__path__)]
    return [
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, pl.Callback) and each.__module__ == module.__name__
    ]


def names(callbacks: list[pl.Callback]) -> list[str]:
    return [type(callback).__name__ for callback in callbacks]


def test_every_callback_declares_a_position_of_its_own() -> None:
    """Lightning's progress bar only shows, so it may stand anywhere."""
    ordered = [each for each in callback_classes() if each not in (OrderedCallback, ProgressBar)]
    positions = [each.order for each in ordered]
    assert sorted(positions) == list(Order)


def test_callbacks_are_sorted_and_others_keep_their_order_behind(tmp_path: Path) -> None:
    last = LastCheckpoint(tmp_path / "last.ckpt")
    bar, other = ProgressBar(), pl.Callback()
    given = [bar, Interruption(last), last, other, ExponentialAverage(0.9), PhasedFinetuning([], {})]
    found = sort_callbacks(given)
    assert names(found[:4]) == ["PhasedFinetuning", "ExponentialAverage", "LastCheckpoint", "Interruption"]
    assert found[4:] == [bar, other]
    check_order(found)


@pytest.mark.parametrize("between", [[], [pl.Callback()], [ProgressiveResizing([])]])
def test_a_wrong_order_is_an_error(tmp_path: Path, between: list[pl.Callback]) -> None:
    last = LastCheckpoint(tmp_path / "last.ckpt")
    with pytest.raises(ConfigError, match=r"expected the callback .* before .*, found it after; reorder them"):
        check_order([Interruption(last), *between, last])


def test_a_fit_with_a_wrong_order_does_not_start(fit, dictated, tmp_path: Path) -> None:
    """A trainer of the user's own is checked as well."""
    module, last = dictated(), LastCheckpoint(tmp_path / "last.ckpt")
    with pytest.raises(ConfigError, match="expected the callback LastCheckpoint before Interruption, found it after"):
        fit(module, Interruption(last), last, epochs=1)
    assert module.weight.item() == 0


def test_a_range_test_is_inserted_after_what_changes_batches() -> None:
    test, other = LRRangeTest(), pl.Callback()
    callbacks: list[pl.Callback] = [other, ProgressiveResizing([]), Throughput()]
    insert_in_order(callbacks, test)
    assert names(callbacks) == ["Callback", "ProgressiveResizing", "LRRangeTest", "Throughput"]
    callbacks = [PhasedFinetuning([], {}), other]
    insert_in_order(callbacks, test)
    assert callbacks[-1] is test
