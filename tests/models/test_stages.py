"""Backbones in parts: what the parts say together is what the backbone says."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from mask_lightning.errors import ConfigError
from mask_lightning.models.backbones import create_backbone
from mask_lightning.models.stages import find_stages, run

CHANNELS = {  # of the maps at 1/4, 1/8, 1/16 and 1/32 of the image's side: the papers' tables, and timm's test models
    "resnet34": (64, 128, 256, 512),
    "ecaresnet26t": (256, 512, 1024, 2048),
    "tf_efficientnet_lite0": (24, 40, 112, 320),
    "efficientnet_b2": (24, 48, 120, 352),
    "mobilenetv3_small_050": (8, 16, 24, 288),
    "convnext_atto": (40, 80, 160, 320),
    "regnetx_002": (24, 56, 152, 368),
    "densenet121": (256, 512, 1024, 1024),
    "test_nfnet": (32, 64, 96, 192),
    "test_mambaout": (16, 32, 48, 64),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_a_stage_ends_at_each_size_of_map(name: str) -> None:
    with torch.device("meta"):
        stages = find_stages(create_backbone(name), size=64)
    assert tuple(stage.channels for stage in stages.parts) == CHANNELS[name]


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_resnet", 64), ("test_efficientnet", 96), ("test_convnext", 64), ("test_nfnet", 64), ("test_mambaout", 64)],
)
def test_stages_and_the_rest_are_the_backbone_itself(name: str, size: int) -> None:
    backbone = create_backbone(name)
    modes = [module.training for module in backbone.modules()]
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    stages = find_stages(backbone, size=64)
    assert [module.training for module in backbone.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert not any(module._forward_pre_hooks for module in backbone.modules())
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    maps = images
    for part, stage in enumerate(stages.parts):
        maps = run(backbone.eval(), stage.modules, maps)
        assert maps.movedim(stages.channel_dim, 1).shape[2] == size // (4 * 2**part)
    torch.testing.assert_close(stages.finish(backbone, maps), backbone(images))


class Skipping(nn.Module):
    """Its parts run in order, but the last one also sees the first one's map, which a chain would forget."""

    feature_info = [{"module": f"part{i}", "num_chs": 3, "reduction": 2**i} for i in (2, 3)]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.part2, self.part3 = nn.Conv2d(3, 3, 4, stride=4), nn.Conv2d(3, 3, 2, stride=2)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        first = self.part2(images)
        return self.part3(first) + first.mean()

    def forward_head(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


@pytest.mark.parametrize(
    "make", [lambda: timm.create_model("test_vit", num_classes=0), Skipping, lambda: nn.Linear(2, 2)]
)
def test_what_has_no_stages_is_refused_in_one_line(make) -> None:
    backbone = make()
    with pytest.raises(
        ConfigError, match=r"expected a backbone of stages .* found (VisionT|Skipping|Linear).*sharing="
    ) as caught:
        find_stages(backbone, size=160)
    assert "\n" not in str(caught.value)
    assert not any(module._forward_pre_hooks for module in backbone.modules())
    assert backbone.training
