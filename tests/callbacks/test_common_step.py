"""Steps of two processes, simulated one after the other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mask_lightning.callbacks.common_step import CommonStep, running_statistics


def trainer_beside(*others: float | torch.Tensor) -> Any:
    """A trainer whose other processes have these values."""

    def reduce(own: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "mean"
        return torch.stack([own, *(torch.as_tensor(other, dtype=own.dtype) for other in others)]).mean(dim=0)

    return SimpleNamespace(strategy=SimpleNamespace(reduce=reduce))


@pytest.mark.parametrize("sizes", [(5, 5), (9, 8), (1, 3)])
def test_averaged_gradients_equal_those_of_all_photos_together(sizes: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, y, weight = torch.randn(sum(sizes), 4), torch.randn(sum(sizes)), torch.randn(4)
    gradients = []
    for own, (xs, ys) in enumerate(zip(x.split(list(sizes)), y.split(list(sizes)), strict=True)):
        callback, trainer, w = CommonStep(), trainer_beside(sizes[1 - own]), weight.clone().requires_grad_()
        loss = F.mse_loss(xs @ w, ys)
        callback.on_train_batch_start(trainer, nn.Module(), {"index": ys}, 0)
        callback.on_before_backward(trainer, nn.Module(), loss)
        loss.backward()
        gradients.append(w.grad)
    together = weight.clone().requires_grad_()
    F.mse_loss(x @ together, y).backward()
    torch.testing.assert_close(torch.stack(gradients).mean(dim=0), together.grad)


def test_running_statistics_are_averaged_except_frozen_ones() -> None:
    module = nn.Sequential(nn.BatchNorm2d(2), nn.Linear(1, 1), nn.BatchNorm1d(3).eval())
    assert [len(each) for each in running_statistics(module)] == [2, 2]
    other = torch.tensor([4.0, 8.0, 3.0, 5.0])
    CommonStep().on_train_batch_end(trainer_beside(other), module, None, None, 0)
    assert module[0].running_mean.tolist() == [2.0, 4.0]
    assert module[0].running_var.tolist() == [2.0, 3.0]
    assert module[2].running_var.tolist() == [1.0, 1.0, 1.0]


def test_the_share_of_photos_is_not_copied_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy makes the host wait for the device, so it must not happen in every batch."""
    callback, trainer, loss = CommonStep(), trainer_beside(2.0), torch.tensor(1.0)
    callback.on_train_batch_start(trainer, nn.Module(), {"index": torch.zeros(4)}, 0)
    monkeypatch.setattr(torch, "tensor", None)
    callback.on_before_backward(trainer, nn.Module(), loss)
    assert loss == 4 / 3
