from __future__ import annotations

import pytest
import torch
from torch import nn

from mask_lightning.models.backbones import create_backbone
from mask_lightning.models.fusion import fuse_norms, fused_sharing
from mask_lightning.models.sharing import make_sharing
from mask_lightning.settings.model import SharingSettings


def train_norms(module: nn.Module) -> None:
    """Give the norms statistics and weights that are not those of a new network."""
    torch.manual_seed(0)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            for tensor in (each.weight.data, each.bias.data, each.running_mean, each.running_var):
                tensor.uniform_(0.5, 1.5)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "norms"), [("test_resnet", 0), ("test_efficientnet", 0), ("test_efficientnet_gn", 0), ("test_vit", 0)]
)
def test_a_fused_backbone_has_the_same_features(name: str, norms: int) -> None:
    backbone = create_backbone(name).eval()
    train_norms(backbone)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    size = 160 if name == "test_vit" else 64
    fused, image = fuse_norms(backbone, size), torch.randn(2, 3, size, size)
    assert sum(isinstance(each, nn.BatchNorm2d) for each in fused.modules()) == norms
    with torch.no_grad():
        torch.testing.assert_close(fused(image), backbone(image), rtol=1e-3, atol=1e-3)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", ["hard", "none", "attention", "cross_stitch"])
def test_every_sharing_has_the_same_features(name: str) -> None:
    sharing = make_sharing(["mask", "age"], "test_resnet", SharingSettings(name=name)).train()
    fused, image = fused_sharing(sharing, 64), torch.randn(2, 3, 64, 64)
    has_norms = any(isinstance(each, nn.BatchNorm2d) for each in fused.modules())
    assert has_norms == (name in ("attention", "cross_stitch"))
    assert sharing.training
    with torch.no_grad():
        want = sharing.eval()(image)
        for task, found in fused(image).items():
            torch.testing.assert_close(found, want[task], rtol=1e-3, atol=1e-3)
