"""What all kinds of sharing have in common."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mask_lightning.errors import ConfigError
from mask_lightning.models.network import SHARING, MultiTaskNetwork, make_sharing
from mask_lightning.models.sharing import HardSharing

CLASSES = {"mask": 3, "gender": 2, "age": 3}
IMAGES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
BACKBONES = {"hard": 1, "attention": 1, "cross_stitch": 3, "none": 3}


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize(
    "backbone", ["test_resnet", "test_efficientnet", "test_convnext", "test_nfnet", "test_mambaout"]
)
def test_every_parameter_is_in_one_group_and_learns(name: str, backbone: str) -> None:
    torch.manual_seed(0)
    network = MultiTaskNetwork(backbone, CLASSES, sharing={"name": name}).train()
    groups, named = network.layer_groups(), dict(network.named_parameters())
    assert list(groups) == ["stem", *(f"block{i}" for i in range(1, len(groups) - 1)), "heads"]
    grouped = {key: parameter for group in groups.values() for key, parameter in group.items()}
    assert sum(len(group) for group in groups.values()) == len(grouped)
    assert grouped.keys() == named.keys()
    assert all(grouped[key] is named[key] for key in named)
    assert len(network.sharing.backbones) == BACKBONES[name]
    assert network.no_decay() <= named.keys()
    outputs = network(IMAGES)
    assert {task: tuple(values.shape) for task, values in outputs.items()} == {t: (4, c) for t, c in CLASSES.items()}
    sum(F.cross_entropy(values, torch.tensor([0, 1, 0, 1])) for values in outputs.values()).backward()
    assert [key for key, parameter in named.items() if parameter.grad is None] == []


@pytest.mark.parametrize("name", SHARING)
def test_tasks_that_share_nothing_do_not_touch_each_other(name: str) -> None:
    torch.manual_seed(0)
    network = MultiTaskNetwork("test_resnet", CLASSES, sharing={"name": name}).eval()  # norms would see a whole batch
    F.cross_entropy(network(IMAGES)["age"], torch.tensor([0, 1, 0, 1])).backward()
    grads = {key: parameter.grad for key, parameter in network.named_parameters()}
    touched = {key for key, grad in grads.items() if grad is not None and grad.any()}
    assert any(".gender." in key and "heads" not in key for key in touched) == (name == "cross_stitch")


def test_positions_are_not_decayed() -> None:
    """timm's own list, as DeiT's authors train: pos_embed, cls_token."""
    network = MultiTaskNetwork("test_vit", CLASSES, sharing={"name": "none"})
    assert network.no_decay() == {
        f"sharing.trunks.{task}.{name}" for task in CLASSES for name in ("pos_embed", "cls_token")
    }


def test_an_unknown_sharing_lists_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no sharing 'cross-stitch'; did you mean cross_stitch"):
        make_sharing(["mask"], "test_resnet", name="cross-stitch")


def test_hard_sharing_gives_all_tasks_the_same() -> None:
    features = HardSharing(tuple(CLASSES), "test_resnet").eval()(IMAGES)
    assert features["mask"] is features["gender"] is features["age"]
