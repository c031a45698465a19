"""Backbones of many families: creation, sizes, layer groups and stages."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from mask_lightning.errors import ConfigError
from mask_lightning.models.backbones import (
    backbone_groups,
    check_backbone,
    count_features,
    count_flops,
    create_backbone,
    find_stages,
    input_spec,
    run_modules,
    takes_any_size,
)

TINY = timm.list_models("test_*")
FAMILIES = [
    "resnet34",
    "efficientnet_b2",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite2",
    "mobilenetv3_small_050",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
    "regnetx_002",
    "densenet121",
]


def on_meta(name: str) -> nn.Module:
    """Create a backbone without memory for its weights."""
    with torch.device("meta"):
        return create_backbone(name)


@pytest.mark.parametrize("name", [*TINY, *FAMILIES])
def test_every_parameter_is_in_one_layer_group(name: str) -> None:
    backbone = on_meta(name)
    groups = backbone_groups(backbone)
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in backbone.named_parameters())
    parameters = dict(backbone.named_parameters())
    assert all(parameters[name] is value for group in groups.values() for name, value in group.items())
    assert list(groups) == ["stem", *(f"block{i}" for i in range(1, len(groups)))]
    assert all(groups.values())


@pytest.mark.parametrize(
    ("name", "blocks", "first", "last"),
    [
        ("resnet34", 16, "layer1.0.", "layer4.2."),  # 3 + 4 + 6 + 3 basic blocks, He et al. 2016, table 1
        ("vit_tiny_patch16_224", 12, "blocks.0.", "blocks.11."),
        ("test_resnet", 4, "layer1.0.", "layer4.0."),
    ],
)
def test_a_group_is_one_feature_block(name: str, blocks: int, first: str, last: str) -> None:
    groups = backbone_groups(on_meta(name))
    assert f"block{blocks}" in groups
    assert len(groups) - 1 in (blocks, blocks + 1)  # and a group for layers after the last block
    grouped = {key: group for group, keys in groups.items() for key in keys}
    assert {group for key, group in grouped.items() if key.startswith(first)} == {"block1"}
    assert {group for key, group in grouped.items() if key.startswith(last)} == {f"block{blocks}"}
    assert all(key.startswith(first) for key in groups["block1"])


@pytest.mark.parametrize("name", ["resnet34", "test_resnet", "tf_efficientnet_lite0"])
def test_layer_groups_are_in_the_order_of_the_forward_pass(name: str) -> None:
    """Groups are ordered by the first use of their parameters."""
    backbone = create_backbone(name).eval()
    group_of = {key: group for group, keys in backbone_groups(backbone).items() for key in keys}
    used: list[str] = []
    for module_name, module in backbone.named_modules():
        for key, _ in module.named_parameters(prefix=module_name, recurse=False):
            module.register_forward_pre_hook(lambda *_, group=group_of[key]: used.append(group))
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 64, 64))
    assert list(dict.fromkeys(used)) == list(backbone_groups(backbone))


@pytest.mark.parametrize("name", [*TINY, "resnet34", "mobilenetv3_small_050", "efficientnet_b2"])
def test_count_features_equals_the_forward_passs(name: str) -> None:
    size = input_spec(name).size
    backbone = on_meta(name).eval()
    assert backbone(torch.zeros(1, 3, size, size, device="meta")).shape == (1, count_features(backbone))


@pytest.mark.parametrize(
    ("name", "size", "mean", "std"),
    [
        ("resnet34", 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("tf_efficientnet_lite0", 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("tf_efficientnet_lite2", 260, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_input_spec(name: str, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    assert input_spec(name) == (size, mean, std)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet43", "resnet34"),
        ("efficientnet_b22", "efficientnet_b2"),
        ("lite0", "tf_efficientnet_lite0"),
        ("xxxxx", "choose from "),
    ],
)
@pytest.mark.parametrize("ask", [check_backbone, input_spec, create_backbone])
def test_an_unknown_backbone_lists_the_nearest(ask, name: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ask(name)
    assert f"no model {name!r}" in str(caught.value)
    assert near in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("ask", [check_backbone, input_spec, create_backbone])
def test_an_unknown_tag_lists_the_nearest(ask) -> None:
    with pytest.raises(ConfigError, match=r"no model 'resnet34\.a1_in1'; did you mean resnet34\.a1_in1k"):
        ask("resnet34.a1_in1")


def test_a_backbone_may_carry_the_tag_of_its_weights() -> None:
    assert input_spec("resnet34.a1_in1k").size == 224
    assert count_features(on_meta("resnet34.a1_in1k")) == 512


@pytest.mark.parametrize(
    ("name", "any_size"), [("resnet34", True), ("test_vit", False), ("swin_tiny_patch4_window7_224", False)]
)
def test_a_backbone_is_built_for_the_size_of_the_photos(name: str, any_size: bool) -> None:
    assert takes_any_size(name) == any_size
    backbone = create_backbone(name, image_size=96).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 96, 96)).shape == (1, count_features(backbone))


def test_an_impossible_size_is_refused() -> None:
    message = r"efficientformer_l1 is made for photos of 224 pixels .* for 128 .*set model\.image_size"
    with pytest.raises(ConfigError, match=message):
        create_backbone("efficientformer_l1", image_size=128)


def test_stochastic_depth_reaches_the_backbone() -> None:
    rates = [
        module.drop_prob
        for module in create_backbone("test_resnet", drop_path_rate=0.3).modules()
        if type(module).__name__ == "DropPath"
    ]
    assert max(rates) == pytest.approx(0.3)


class Small(nn.Module):
    """2 x (3 x 4 x 9 x 8 x 8) flops of the convolution and 2 x (4 x 5) of the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(self.conv(images)).mean((2, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_count_flops_leaves_the_model_unchanged(training: bool) -> None:
    model = Small().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert count_flops(model, 8) == 2 * (3 * 4 * 9 * 64) + 2 * (4 * 5)
    assert model.training == model.norm.training == training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


CHANNELS = {  # at 1/4, 1/8, 1/16 and 1/32 of the image's side, from the papers' tables
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
def test_there_is_one_stage_per_size_of_feature_map(name: str) -> None:
    with torch.device("meta"):
        stages = find_stages(create_backbone(name), size=64)
    assert tuple(stage.channels for stage in stages.parts) == CHANNELS[name]


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_resnet", 64), ("test_efficientnet", 96), ("test_convnext", 64), ("test_nfnet", 64), ("test_mambaout", 64)],
)
def test_stages_and_finish_equal_the_forward_pass(name: str, size: int) -> None:
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
        maps = run_modules(backbone.eval(), stage.modules, maps)
        assert maps.movedim(stages.channel_dim, 1).shape[2] == size // (4 * 2**part)
    torch.testing.assert_close(stages.finish(backbone, maps), backbone(images))


class Skipping(nn.Module):
    """Modules in order, with a skip connection that a sequence of stages would lose."""

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
def test_a_backbone_without_stages_is_refused_in_one_line(make) -> None:
    backbone = make()
    with pytest.raises(
        ConfigError, match=r"expected a backbone of stages .* found (VisionT|Skipping|Linear).*sharing="
    ) as caught:
        find_stages(backbone, size=160)
    assert "\n" not in str(caught.value)
    assert not any(module._forward_pre_hooks for module in backbone.modules())
    assert backbone.training
