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
    input_spec,
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
    """Without memory: shapes and names alone."""
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
    assert len(groups) - 1 in (blocks, blocks + 1)  # and what follows the last
    grouped = {key: group for group, keys in groups.items() for key in keys}
    assert {group for key, group in grouped.items() if key.startswith(first)} == {"block1"}
    assert {group for key, group in grouped.items() if key.startswith(last)} == {f"block{blocks}"}
    assert all(key.startswith(first) for key in groups["block1"])


@pytest.mark.parametrize("name", ["resnet34", "test_resnet", "tf_efficientnet_lite0"])
def test_groups_lie_in_the_order_of_the_forward_pass(name: str) -> None:
    """The gradient of a group's output reaches the groups below it alone; told by the order of first use."""
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
def test_features_are_counted_as_the_network_makes_them(name: str) -> None:
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
def test_a_backbone_tells_what_its_weights_expect(
    name: str, size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
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
def test_an_unknown_tag_of_a_backbone_is_told(ask) -> None:
    with pytest.raises(ConfigError, match=r"no model 'resnet34\.a1_in1'; did you mean resnet34\.a1_in1k"):
        ask("resnet34.a1_in1")


def test_a_backbone_may_carry_the_tag_of_its_weights() -> None:
    assert input_spec("resnet34.a1_in1k").size == 224
    assert count_features(on_meta("resnet34.a1_in1k")) == 512


@pytest.mark.parametrize(
    ("name", "any_size"), [("resnet34", True), ("test_vit", False), ("swin_tiny_patch4_window7_224", False)]
)
def test_a_backbone_is_built_for_the_photos(name: str, any_size: bool) -> None:
    assert takes_any_size(name) == any_size
    backbone = create_backbone(name, image_size=96).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 96, 96)).shape == (1, count_features(backbone))


def test_a_size_that_a_backbone_cannot_be_built_for_is_told() -> None:
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
def test_flops_are_counted_and_nothing_is_changed(training: bool) -> None:
    model = Small().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert count_flops(model, 8) == 2 * (3 * 4 * 9 * 64) + 2 * (4 * 5)
    assert model.training == model.norm.training == training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
