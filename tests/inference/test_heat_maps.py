"""Heat maps: equal to the paper, on the mask of drawn portraits, and of the right shape for CNNs and transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask_lightning.data.batching import normalise
from mask_lightning.data.dataset import FaceDataset
from mask_lightning.data.index import read_index
from mask_lightning.data.transforms import TransformSpec, eval_pipeline
from mask_lightning.errors import ConfigError
from mask_lightning.inference.heat_maps import find_feature_map, grad_cam, heat_maps, tokens_to_grid
from mask_lightning.inference.trained import load_trained
from mask_lightning.labels import FACE
from mask_lightning.models.heads import ClassHead
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.synthetic.portraits import write_portraits


class Colours(nn.Module):
    """Network whose features are the mean colours of the image, so that its feature map is the image itself."""

    def __init__(self, weights: dict[str, list[list[float]]]) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        with torch.no_grad():
            self.backbone[0].weight.copy_(torch.eye(3)[..., None, None])
        self.weights = {task: torch.tensor(rows) for task, rows in weights.items()}

    def head(self, task: str) -> ClassHead:
        return ClassHead(3, len(self.weights[task]))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.backbone(images)
        return {task: features @ rows.T for task, rows in self.weights.items()}


def test_equal_to_the_equations_of_the_paper() -> None:
    """Equations 1 and 2 of Selvaraju et al. 2017: here the weights of the maps equal the weights of the class."""
    weights = {"mask": [[1.0, -0.5, 0.0], [0.0, 0.0, 2.0]], "age": [[-1.0, -1.0, -1.0], [0.5, 0.5, 0.5]]}
    images = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    chosen = {"mask": np.array([0, 1, 0]), "age": np.array([1, 0, 1])}
    network = Colours(weights)
    maps = grad_cam(network, find_feature_map(network.backbone, 6), images, chosen)
    for task, classes in chosen.items():
        rows = np.array(weights[task])[classes]
        want = np.maximum(np.einsum("bk,bkhw->bhw", rows, images.numpy()), 0)
        largest = want.max(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(maps[task], want / np.where(largest > 0, largest, 1), atol=1e-5)
    assert not maps["age"][1].any(), "nothing speaks for a class with negative weights only"


@pytest.mark.parametrize(
    ("backbone", "size", "side"),
    [("test_resnet", 96, 3), ("test_efficientnet", 96, 3), ("test_convnext", 96, 3), ("test_vit", 160, 10)],
)
def test_shapes_of_cnns_and_transformers(backbone: str, size: int, side: int) -> None:
    torch.manual_seed(0)
    network = MultiTaskNetwork(backbone, {"mask": 3, "age": 2}).eval().requires_grad_(False)
    images = torch.randn(2, 3, size, size)
    before = network(images)
    classes = {"mask": np.array([0, 2]), "age": np.array([1, 0])}
    maps = grad_cam(network, find_feature_map(network.sharing.backbone, size), images, classes)
    assert {task: tuple(each.shape) for task, each in maps.items()} == {"mask": (2, side, side), "age": (2, side, side)}
    assert all(each.min() >= 0 and each.max() <= 1 for each in maps.values())
    assert any(each.any() for each in maps.values())
    for task, logits in network(images).items():
        torch.testing.assert_close(logits, before[task])
        assert not logits.requires_grad


@pytest.mark.parametrize(("count", "prefix", "kept"), [(197, 1, 196), (198, 2, 196), (196, 0, 196), (196, 1, 196)])
def test_class_and_register_tokens_are_dropped(count: int, prefix: int, kept: int) -> None:
    tokens = torch.arange(count).float().view(1, count, 1).repeat(2, 1, 5)
    grid = tokens_to_grid(tokens, prefix)
    assert grid.shape == (2, 5, 14, 14)
    assert grid[0, 0].flatten().tolist() == list(range(count - kept, count))


def test_a_backbone_without_spatial_features_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a backbone with spatial features, found Sequential"):
        find_feature_map(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4)), 8)
    with pytest.raises(ConfigError, match="square grid, found 7"):
        tokens_to_grid(torch.zeros(1, 7, 2), 1)


def test_photos_of_a_trained_run(make_checkpoint, competition: Path) -> None:
    trained = load_trained(make_checkpoint(), torch.device("cpu"))
    rows = read_index(competition).iloc[:20].reset_index(drop=True)  # more than one batch
    classes = {task: np.arange(20) % FACE[task].num_classes for task in ("mask", "age")}
    maps = heat_maps(trained, rows, classes)
    assert {task: each.shape for task, each in maps.items()} == {"mask": (20, 2, 2), "age": (20, 2, 2)}
    alone = heat_maps(trained, rows[17:18], {"age": classes["age"][17:18]})
    np.testing.assert_allclose(alone["age"], maps["age"][17:18], atol=1e-5)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return read_index(write_portraits(tmp_path_factory.mktemp("portraits") / "drawn", people=6))


def test_the_mask_task_looks_at_the_mask(portraits: pd.DataFrame) -> None:
    """After training on drawn portraits, the heat for "worn" is on the lower face, where the mask is."""
    torch.manual_seed(0)
    spec = TransformSpec(380, 256, 128)
    photos = FaceDataset(portraits, (), eval_pipeline(spec))
    images = normalise(torch.stack([photos[i]["image"] for i in range(len(photos))]), spec.mean, spec.std)
    truth = torch.tensor(portraits["mask"].tolist())
    network = MultiTaskNetwork("test_efficientnet", {"mask": 3})
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(40):
        rows = torch.randperm(len(images))[:21]
        loss = F.cross_entropy(network(images[rows])["mask"], truth[rows], weight=torch.tensor([0.2, 1.0, 1.0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval().requires_grad_(False)
    worn = images[truth == 0]
    chosen = {"mask": np.zeros(len(worn), np.int64)}
    maps = grad_cam(network, find_feature_map(network.sharing.backbone, 128), worn, chosen)["mask"]
    height = F.interpolate(maps[:, None], (100, 100), mode="bilinear").mean(dim=(0, 1, 3))  # heat from top to bottom
    assert height[50:85].mean() > 1.5 * height[:35].mean()
