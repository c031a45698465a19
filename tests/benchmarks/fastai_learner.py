"""The same work as ours in fastai (extra `bench`), written as its documentation has it: the peer of two benchmarks."""

# No `from __future__ import annotations`: fastai dispatches on them.
from collections.abc import Callable
from typing import Any

import torch
from fastai.callback.all import ChannelsLast
from fastai.vision.all import (
    Callback,
    CropPad,
    Datasets,
    IntToFloatTensor,
    Learner,
    Normalize,
    PILImage,
    Resize,
    ResizeMethod,
    ToTensor,
    Transform,
    params,
)
from torch import Tensor, nn
from torchvision.transforms import RandAugment

from mask_lightning.data.transforms import TransformSpec
from mask_lightning.pipelines.photos import Photos

__all__ = ["Callback", "make_learner"]


class Augment(Transform):
    """RandAugment(3, 6) of training photos, after the resize and before the tensor."""

    split_idx, order = 0, 2

    def __init__(self) -> None:
        super().__init__()
        self.augment = RandAugment(3, 6)

    def encodes(self, photo: PILImage) -> PILImage:
        return PILImage(self.augment(photo))


def make_learner(
    network: nn.Module,
    loss: Callable[..., Tensor],
    photos: Photos,
    spec: TransformSpec,
    batch_size: int,
    *,
    channels_last: bool,
) -> Learner:
    """A Learner on the training photos; whoever calls this scores it.

    Photos must have a crop. Layer groups are the network's `backbone` and `heads`; workers and optimizer are fastai's
    defaults.
    """
    rows = photos.labels
    paths = rows["path"].tolist()
    targets = torch.from_numpy(rows[list(photos.space.names)].to_numpy("int64", copy=True))

    def photo(row: int) -> PILImage:
        return PILImage.create(paths[row])

    def target(row: int) -> Tensor:
        return targets[row]

    sides = [list(range(len(rows))), []]
    assert spec.crop_width is not None
    assert spec.crop_height is not None
    loaders = Datasets(sides[0], [[photo], [target]], splits=sides).dataloaders(
        bs=batch_size,
        after_item=[
            CropPad((spec.crop_width, spec.crop_height)),
            Resize(spec.size, ResizeMethod.Squish),
            Augment(),
            ToTensor(),
        ],
        after_batch=[IntToFloatTensor(), Normalize.from_stats(spec.mean, spec.std)],
        drop_last=False,
    )
    callbacks: list[Any] = [ChannelsLast()] if channels_last else []
    return Learner(loaders, network, loss_func=loss, splitter=split, cbs=callbacks)


def split(network: nn.Module) -> list[list[nn.Parameter]]:
    """The backbone, then the heads."""
    return [params(network.backbone), params(network.heads)]
