"""Gradients over accumulated batches equal those of one batch with the same photos."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, SequentialSampler, TensorDataset

from mask_lightning.callbacks.accumulation import AccumulationMean, loss_factor
from mask_lightning.callbacks.common_step import CommonStep
from mask_lightning.callbacks.lr_range_test import LRRangeTest
from mask_lightning.data.samplers import ShardedBatches

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(40, 3, generator=GENERATOR), torch.randn(40, generator=GENERATOR)


@pytest.mark.parametrize(
    ("sizes", "accumulated"),
    [([4, 4, 4], 1), ([4, 4, 4, 4], 2), ([4, 4, 4], 2), ([4, 4, 2], 2), ([4, 2], 2), ([4, 4, 1], 8), ([5, 6, 7, 1], 3)],
)
def test_the_weights_of_all_photos_of_a_step_are_equal_and_sum_to_one(sizes: list[int], accumulated: int) -> None:
    for start in range(0, len(sizes), accumulated):
        window = range(start, min(start + accumulated, len(sizes)))
        photos = sum(sizes[i] for i in window)
        for i in window:
            lightning = Fraction(1, accumulated * sizes[i])  # weight of a photo: a mean, divided by the full count
            assert loss_factor(sizes, i, accumulated) * lightning == pytest.approx(1 / photos)


class Regression(pl.LightningModule):
    """Least squares; records the gradient of every optimizer step."""

    def __init__(self, photos: int, batch_size: int, *, sized: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -1.0, 0.5]))
        self.photos, self.batch_size, self.sized = photos, batch_size, sized
        self.gradients: list[torch.Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        return F.mse_loss(x @ self.weight, y)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        assert self.weight.grad is not None
        self.gradients.append(self.weight.grad.clone())

    def train_dataloader(self) -> Any:
        photos = TensorDataset(X[: self.photos], Y[: self.photos])
        if not self.sized:
            return DataLoader(photos, batch_size=self.batch_size)
        return DataLoader(photos, batch_sampler=ShardedBatches(SequentialSampler(photos), self.batch_size))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)  # all gradients are of the same weights


def gradient(photos: range) -> torch.Tensor:
    """The gradient of the mean loss over the photos, by the formula."""
    x, y = X[photos.start : photos.stop].double(), Y[photos.start : photos.stop].double()
    weight = torch.tensor([1.0, -1.0, 0.5], dtype=torch.double)
    return (2 * x.T @ (x @ weight - y) / len(photos)).float()


@pytest.mark.parametrize(
    ("photos", "batch_size", "accumulated", "steps"),
    [
        (16, 4, 1, [4, 4, 4, 4]),
        (16, 4, 2, [8, 8]),
        (12, 4, 2, [8, 4]),  # half a window
        (14, 4, 2, [8, 6]),  # a smaller batch in a whole window
        (10, 4, 2, [8, 2]),
        (10, 4, 4, [10]),
        (10, 4, 100, [10]),
        (9, 4, 3, [9]),  # the last photo is merged
    ],
)
def test_a_step_is_that_of_one_large_batch(fit, photos: int, batch_size: int, accumulated: int, steps) -> None:
    module = Regression(photos, batch_size, sized=True)
    fit(module, AccumulationMean(), epochs=2, accumulate_grad_batches=accumulated)
    ends = [sum(steps[: i + 1]) for i in range(len(steps))]
    want = [gradient(range(end - size, end)) for size, end in zip(steps, ends, strict=True)]
    torch.testing.assert_close(torch.stack(module.gradients), torch.stack(want * 2))


def test_without_sizes_the_batches_of_a_step_have_the_same_weight(fit) -> None:
    """Three batches of 4, 4 and 2 photos, two per step; the loader is any of a user's own."""
    module = Regression(10, 4, sized=False)
    fit(module, AccumulationMean(), epochs=1, accumulate_grad_batches=2)
    torch.testing.assert_close(module.gradients, [gradient(range(8)), gradient(range(8, 10))])


def test_a_limit_ends_the_epoch(fit) -> None:
    module = Regression(40, 4, sized=True)
    fit(module, AccumulationMean(), epochs=1, accumulate_grad_batches=2, limit_train_batches=3)
    torch.testing.assert_close(module.gradients, [gradient(range(8)), gradient(range(8, 12))])


def test_a_range_test_is_corrected_and_does_not_disturb_the_fit(fit) -> None:
    module = Regression(12, 4, sized=True)
    test = LRRangeTest(num_steps=10, start_lr=1e-12, end_lr=1e-11)
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=1e-12)  # type: ignore[method-assign]
    fit(module, AccumulationMean(), test, epochs=1, accumulate_grad_batches=2)
    want = [gradient(range(8)), gradient(range(8, 12))]
    torch.testing.assert_close(module.gradients, want * 6)


@pytest.mark.parametrize(("batches", "accumulated", "warns"), [(3, 3, False), (3, 4, True), (3, 100, True)])
def test_more_than_an_epoch_is_reported(
    fit, caplog: pytest.LogCaptureFixture, batches: int, accumulated: int, warns: bool
) -> None:
    with caplog.at_level(logging.WARNING, logger="mask_lightning"):
        fit(Regression(4 * batches, 4, sized=True), AccumulationMean(), epochs=1, accumulate_grad_batches=accumulated)
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("mask_lightning")]
    assert len(messages) == warns
    if warns:
        assert messages[0].startswith(
            f"trainer.accumulate={accumulated} is more than the {batches} batches of an epoch"
        )


class Process:
    """Trainer of one of two processes, with the attributes that CommonStep and AccumulationMean read."""

    def __init__(self, sizes: Sequence[int], other: int, accumulated: int) -> None:
        self.num_training_batches, self.accumulate_grad_batches, self.is_global_zero = len(sizes), accumulated, True
        self.train_dataloader = type("Loader", (), {"batch_sampler": type("Sizes", (), {"sizes": list(sizes)})})
        self.strategy, self.other = self, other

    def reduce(self, own: torch.Tensor, reduce_op: str) -> torch.Tensor:
        return (own + self.other) / 2


@pytest.mark.parametrize(("sizes", "accumulated"), [([4, 4, 5], 2), ([4, 5], 3), ([5, 4, 7], 3)])
def test_two_processes_take_the_step_of_one_large_batch(sizes: list[int], accumulated: int) -> None:
    """Gradients of each process by DDP's rules: the mean over processes of sums over batches."""
    rows = range(sum(sizes))
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    batches = [rows[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    start = (len(sizes) - 1) // accumulated * accumulated
    total = torch.zeros(3)
    for rank in range(2):
        weight = torch.tensor([1.0, -1.0, 0.5], requires_grad=True)
        for i in range(start, len(sizes)):
            own, other = list(batches[i][rank::2]), list(batches[i][1 - rank :: 2])
            trainer: Any = Process(sizes, len(other), accumulated)
            loss = F.mse_loss(X[own] @ weight, Y[own]) / accumulated
            for callback in (CommonStep(), AccumulationMean()):
                callback.on_train_start(trainer, pl.LightningModule())
                callback.on_train_batch_start(trainer, pl.LightningModule(), {"index": own}, i)
                callback.on_before_backward(trainer, pl.LightningModule(), loss)
            loss.backward()
        assert weight.grad is not None
        total += weight.grad / 2
    torch.testing.assert_close(total, gradient(range(batches[start].start, ends[-1])))
