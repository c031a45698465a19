from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mask_lightning.models.network import MultiTaskNetwork

CLASSES = {"mask": 3, "gender": 2, "age": 3}
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> MultiTaskNetwork:
    return MultiTaskNetwork("test_resnet", CLASSES)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "mobilenetv3_small_050"])
def test_every_task_has_logits(name: str) -> None:
    logits = MultiTaskNetwork(name, CLASSES).eval()(IMAGES)
    assert {task: tuple(values.shape) for task, values in logits.items()} == {
        "mask": (4, 3),
        "gender": (4, 2),
        "age": (4, 3),
    }


def test_each_parameter_is_in_one_layer_group_and_heads_are_last(network: MultiTaskNetwork) -> None:
    groups = network.layer_groups()
    assert list(groups) == ["stem", "block1", "block2", "block3", "block4", "heads"]
    grouped = {name: parameter for group in groups.values() for name, parameter in group.items()}
    assert sum(len(group) for group in groups.values()) == len(grouped)
    named = dict(network.named_parameters())
    assert grouped.keys() == named.keys()
    assert all(grouped[name] is named[name] for name in named)
    assert all(name.startswith("heads.") for name in groups["heads"])


@pytest.mark.parametrize("task", CLASSES)
def test_each_task_trains_its_own_head_and_the_shared_backbone(network: MultiTaskNetwork, task: str) -> None:
    network.zero_grad()
    logits = network.train()(IMAGES)
    F.cross_entropy(logits[task], torch.tensor([0, 1, 0, 1])).backward()
    for other in CLASSES:
        assert (network.heads[other].linear.weight.grad is not None) == (other == task)
    assert all(parameter.grad is not None for parameter in network.sharing.backbone.parameters())


def test_all_heads_see_the_same_features(network: MultiTaskNetwork) -> None:
    network.eval()
    with torch.no_grad():
        logits, features = network(IMAGES), network.sharing.backbone(IMAGES)
        for task, head in network.heads.items():
            assert torch.allclose(logits[task], head(features))


@pytest.mark.parametrize("prefix", ["", "network."])
def test_first_checkpoints_of_0_1_have_another_name_for_the_backbone(network: MultiTaskNetwork, prefix: str) -> None:
    module = torch.nn.ModuleDict({"network": network}) if prefix else network
    old = {name.replace("sharing.backbone.", "backbone."): value for name, value in module.state_dict().items()}
    assert f"{prefix}backbone.layer1.0.conv1.weight" in old
    other = MultiTaskNetwork("test_resnet", CLASSES)
    (torch.nn.ModuleDict({"network": other}) if prefix else other).load_state_dict(old)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())


def test_dropout_and_stochastic_depth_reach_the_layers() -> None:
    network = MultiTaskNetwork("test_resnet", CLASSES, drop_rate=0.4, drop_path_rate=0.2)
    assert all(head.drop.p == 0.4 for head in network.heads.values())
    assert any(type(module).__name__ == "DropPath" for module in network.sharing.backbone.modules())
