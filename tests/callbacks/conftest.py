"""A Lightning module with given scores, and a real tiny network; both fit in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.optim.param_groups import build_param_groups


class Photos(Dataset[dict[str, Any]]):
    def __init__(self, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(size, 3, 32, 32, generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "target": index % 3, "index": index}


def loader(photos: int = 10, batch: int = 4) -> DataLoader[dict[str, Any]]:
    """Three batches: 4, 4 and 2 photos."""
    return DataLoader(Photos(photos), batch_size=batch)


class Dictated(pl.LightningModule):
    """Trains one number; epoch i validates with `scores[i]` as val/f1."""

    def __init__(self, scores: Sequence[float] = ()) -> None:
        super().__init__()
        self.scores = list(scores)
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        loss = (self.weight - 1).square().sum()
        self.log("train/loss", loss, on_step=True, on_epoch=True, batch_size=len(batch["index"]))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.log("val/f1", self.scores[self.current_epoch], batch_size=1)
        self.log("clean_train/f1", 0.125 * self.current_epoch, batch_size=1)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return loader()

    def val_dataloader(self) -> Any:
        return loader(1) if self.scores else []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"name": "head", "params": [self.weight], "lr": 0.1}])


class Network(pl.LightningModule):
    """A residual network of four blocks and two heads under AdamW with weight decay, all groups from the start."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = MultiTaskNetwork("test_resnet", {"mask": 3, "gender": 2})

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        logits = self.network(batch["image"])
        return F.cross_entropy(logits["mask"], batch["target"]) + F.cross_entropy(logits["gender"], batch["target"] % 2)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.network(batch["image"])

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return loader()

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return loader(2)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = build_param_groups(self.network.layer_groups(), weight_decay=0.5)
        return torch.optim.AdamW(groups, lr=1e-2)


Fit = Callable[..., pl.Trainer]


@pytest.fixture
def dictated() -> Callable[..., Dictated]:
    return Dictated


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    """Fit a module for some epochs with callbacks and without Lightning's own output."""

    def fit(
        module: pl.LightningModule, *callbacks: pl.Callback, epochs: int, resume: Path | None = None, **options: Any
    ) -> pl.Trainer:
        trainer = pl.Trainer(
            max_epochs=epochs,
            callbacks=list(callbacks),
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
            enable_model_summary=False,
            default_root_dir=tmp_path,
            **{"num_sanity_val_steps": 0, **options},
        )
        trainer.fit(module, ckpt_path=resume, weights_only=True)
        return trainer

    return fit


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore Lightning's advice on workers and logging."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:.*does not have many workers"))
            item.add_marker(pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"))
