"""The contestants of bench_training.py: each trains on the same photos, and pauses after each batch of 32.

    python tests/benchmarks/training_loops.py NAME FOLDER [OVERRIDE ...]

NAME is a function of this file, FOLDER is for what it writes, and the overrides are those of a training: what the
others train, and on what, follows from them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import RandAugment
from turns import pause

from mask_lightning.callbacks.finite_loss import FiniteLoss
from mask_lightning.callbacks.progress import Throughput
from mask_lightning.cli.compose import compose
from mask_lightning.data.batching import normalise
from mask_lightning.data.datamodule import default_workers
from mask_lightning.data.images import open_photo
from mask_lightning.data.transforms import TransformSpec, eval_pipeline
from mask_lightning.engine import trainer as trainers
from mask_lightning.pipelines.photos import find_photos
from mask_lightning.pipelines.prepare import choose_transform, prepare_run
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings
from mask_lightning.utils.system import keep_memory


class Turns(pl.Callback):
    """A turn per step."""

    def on_train_batch_end(self, *args: Any) -> None:
        pause()


def ours(settings: TrainSettings, folder: Path) -> None:
    """As a run trains, with all that it does between two steps; what it leaves at an epoch's end is not asked for."""
    run = prepare_run(settings)
    module, data = run.build_pretrained_module(), run.build_data()
    learning = [*trainers.learning_callbacks(data, module), *trainers.selection_callbacks(settings, module)]
    finite = FiniteLoss(folder / "not_finite.csv", data.split.train["path"].tolist())
    trainer = trainers.make_trainer(settings, folder, [*learning, finite, Throughput(), Turns()])
    pause()
    with trainers.without_advice():
        trainer.fit(module, data)


def bare(settings: TrainSettings, folder: Path) -> None:
    """The same module's forward pass, loss, backward pass and optimizer step, on one batch that is in memory."""
    run = prepare_run(settings)
    module, spec = run.build_pretrained_module(), run.transform
    batch = next(iter(run.build_data().train_dataloader()))
    images, target = normalise(batch["image"], spec.mean, spec.std), batch["target"]
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, foreach=True)
    keep_memory()
    pause()
    while True:
        outputs = module(images)
        loss = module.weighting({task: module.losses[task](outputs[task], target[task]) for task in outputs})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pause()


class Prepared(Dataset[tuple[Tensor, Tensor]]):
    """Photos decoded, cropped and resized once, in memory, as a loop for a small set may well have them."""

    def __init__(self, paths: list[str], targets: Tensor, spec: TransformSpec) -> None:
        prepare = eval_pipeline(spec).prepare
        self.photos = np.stack([np.asarray(prepare(open_photo(path))) for path in paths])
        self.targets, self.augment = targets, RandAugment(3, 6)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(np.array(self.augment(Image.fromarray(self.photos[row])))), self.targets[row]


class TimmHeads(nn.Module):
    """timm's backbone and a linear layer per task."""

    def __init__(self, backbone: str, classes: list[int]) -> None:
        super().__init__()
        self.backbone = timm.create_model(backbone, pretrained=False, num_classes=0)
        self.heads = nn.ModuleList(nn.Linear(self.backbone.num_features, count) for count in classes)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.backbone(images)
        return [head(features) for head in self.heads]


def summed_loss(outputs: list[Tensor], targets: Tensor) -> Tensor:
    """Cross-entropies of all tasks; targets (B, tasks)."""
    return torch.stack([F.cross_entropy(each, targets[:, i]) for i, each in enumerate(outputs)]).sum()


def by_hand(settings: TrainSettings, folder: Path) -> None:
    """A loop around timm, as good as it can be written: all of our tricks, and nothing of Lightning."""
    photos, spec = find_photos(settings), choose_transform(settings)
    rows, names = photos.labels, list(photos.space.names)
    dataset = Prepared(rows["path"].tolist(), torch.from_numpy(rows[names].to_numpy("int64", copy=True)), spec)
    batch_size = settings.data.batch_size
    workers: dict[str, Any] = {"num_workers": count, "persistent_workers": True} if (count := default_workers()) else {}
    loader = DataLoader(dataset, batch_size, shuffle=True, drop_last=True, **workers)
    network = TimmHeads(settings.model.backbone, [task.num_classes for task in photos.space.tasks])
    network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, foreach=True)
    mean, std = (255 * torch.tensor(values) for values in (spec.mean, spec.std))
    keep_memory()
    pause()
    while True:
        for pixels, targets in loader:
            images = pixels.float().sub_(mean).div_(std).permute(0, 3, 1, 2)
            loss = summed_loss(network(images), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            pause()


def fastai(settings: TrainSettings, folder: Path, *, channels_last: bool = False) -> None:
    """A Learner as it comes."""
    from fastai_learner import Callback, make_learner

    class Step(Callback):
        def after_batch(self) -> None:
            if self.training:
                pause()

    photos, spec = find_photos(settings), choose_transform(settings)
    network = TimmHeads(settings.model.backbone, [task.num_classes for task in photos.space.tasks])
    learner = make_learner(network, summed_loss, photos, spec, settings.data.batch_size, channels_last=channels_last)
    pause()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(1000, 1e-3, cbs=Step())


def fastai_channels_last(settings: TrainSettings, folder: Path) -> None:
    """A Learner with the callback."""
    fastai(settings, folder, channels_last=True)


CONTESTANTS = {each.__name__: each for each in (ours, bare, by_hand, fastai, fastai_channels_last)}

if __name__ == "__main__":
    name, place, *overrides = sys.argv[1:]
    CONTESTANTS[name](check(TrainSettings, compose("train", TrainSettings, overrides)), Path(place))
