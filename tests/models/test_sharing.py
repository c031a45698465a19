"""Properties that all kinds of sharing have, then cross-stitch units and attention against the papers."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mask_lightning.errors import ConfigError
from mask_lightning.models.backbones import count_parameters, create_backbone
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.models.sharing import (
    SHARING,
    AttentionSharing,
    CrossStitchSharing,
    CrossStitchUnit,
    HardSharing,
    NoSharing,
    StageAttention,
    TaskAttention,
    make_sharing,
)
from mask_lightning.settings.base import check
from mask_lightning.settings.model import SharingSettings

CLASSES = {"mask": 3, "gender": 2, "age": 3}
IMAGES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
BACKBONES = {"hard": 1, "attention": 1, "cross_stitch": 3, "none": 3}


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize(
    "backbone", ["test_resnet", "test_efficientnet", "test_convnext", "test_nfnet", "test_mambaout"]
)
def test_every_parameter_is_in_one_group_and_learns(name: str, backbone: str) -> None:
    torch.manual_seed(0)
    network = MultiTaskNetwork(backbone, CLASSES, sharing=SharingSettings(name=name)).train()
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
def test_only_cross_stitch_sends_gradients_to_the_backbones_of_other_tasks(name: str) -> None:
    torch.manual_seed(0)
    network = MultiTaskNetwork(
        "test_resnet", CLASSES, sharing=SharingSettings(name=name)
    ).eval()  # in train mode norms depend on the whole batch
    F.cross_entropy(network(IMAGES)["age"], torch.tensor([0, 1, 0, 1])).backward()
    grads = {key: parameter.grad for key, parameter in network.named_parameters()}
    touched = {key for key, grad in grads.items() if grad is not None and grad.any()}
    assert any(".gender." in key and "heads" not in key for key in touched) == (name == "cross_stitch")


def test_position_embeddings_are_not_decayed() -> None:
    """timm's own list, as DeiT's authors train: pos_embed, cls_token."""
    network = MultiTaskNetwork("test_vit", CLASSES, sharing=SharingSettings(name="none"))
    assert network.no_decay() == {
        f"sharing.trunks.{task}.{name}" for task in CLASSES for name in ("pos_embed", "cls_token")
    }


def test_every_choice_of_the_settings_has_a_class() -> None:
    assert set(SHARING) == set(get_args(SharingSettings.model_fields["name"].annotation))


def test_options_reach_the_class() -> None:
    sharing = make_sharing(["mask", "age"], "test_resnet", SharingSettings(name="cross_stitch", own=0.7))
    assert sharing.units[0]["age"].shares[1].tolist() == pytest.approx([0.7] * 32)
    attention = make_sharing(["age"], "test_resnet", SharingSettings(name="attention", squeeze=8))
    assert attention.attention[0].tasks["age"].mask[0].out_channels == 4


def test_an_unknown_sharing_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match="name must be 'hard', 'cross_stitch', 'attention' or 'none', got 'cross-st"):
        check(SharingSettings, {"name": "cross-stitch"})


def test_hard_sharing_gives_all_tasks_the_same_features() -> None:
    features = HardSharing(tuple(CLASSES), "test_resnet").eval()(IMAGES)
    assert features["mask"] is features["gender"] is features["age"]


TASKS = ("mask", "gender", "age")


@pytest.mark.parametrize("channel_dim", [1, 3])
@pytest.mark.parametrize(("tasks", "own"), [(2, 0.9), (3, 0.7)])
def test_a_cross_stitch_unit_follows_the_paper(tasks: int, own: float, channel_dim: int) -> None:
    """Misra et al. 2016, equation 2, for each channel: the shares times the maps at one place, added."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 5, 3, 4, generator=generator) for _ in range(tasks)]
    mixture = CrossStitchUnit(tasks, 1, 5, own=own, channel_dim=channel_dim)
    start = np.array([own if i == 1 else (1 - own) / (tasks - 1) for i in range(tasks)])
    np.testing.assert_allclose(mixture.shares.detach(), np.repeat(start[:, None], 5, axis=1), rtol=1e-6)
    with torch.no_grad():
        mixture.shares.copy_(torch.randn(tasks, 5, generator=generator))
        mixed = mixture([each.movedim(1, channel_dim) for each in maps]).movedim(channel_dim, 1)
    want = np.einsum("tc,tbchw->bchw", mixture.shares.detach().numpy(), np.stack([each.numpy() for each in maps]))
    np.testing.assert_allclose(mixed, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_convnext", "test_mambaout"])
def test_units_with_own_share_1_equal_separate_networks(backbone: str) -> None:
    torch.manual_seed(0)
    stitched = CrossStitchSharing(TASKS, backbone, own=1.0).eval()
    separate = NoSharing(TASKS, backbone).eval()
    separate.load_state_dict({name: value for name, value in stitched.state_dict().items() if "units" not in name})
    with torch.no_grad():
        ours, theirs = stitched(IMAGES), separate(IMAGES)
    assert ours.keys() == theirs.keys()
    for task, features in ours.items():
        torch.testing.assert_close(features, theirs[task])


def test_every_task_sends_gradients_to_every_network() -> None:
    torch.manual_seed(0)
    sharing = CrossStitchSharing(TASKS, "test_resnet").train()
    sharing(IMAGES)["age"].sum().backward()
    assert all(parameter.grad is not None for trunk in sharing.backbones for parameter in trunk.parameters())
    last = sharing.units[-1]  # nothing is mixed after it
    assert {task: mixture.shares.grad is not None for task, mixture in last.items()} == {
        "mask": False,
        "gender": False,
        "age": True,
    }


def test_a_unit_is_in_the_layer_group_that_it_follows() -> None:
    groups = CrossStitchSharing(TASKS, "resnet18").layer_groups()  # blocks 2, 4, 6 and 8 end its stages
    assert list(groups) == ["stem", *(f"block{i}" for i in range(1, 9))]
    units = {name: group for group, named in groups.items() for name in named if name.startswith("units.")}
    assert units == {f"units.{i}.{task}.shares": f"block{2 * i + 2}" for i in range(4) for task in TASKS}
    assert {name.split(".")[1] for name in groups["block3"]} == set(TASKS)


def test_shares_are_not_decayed() -> None:
    sharing = CrossStitchSharing(TASKS[:2], "test_resnet")
    assert sharing.no_decay() == {f"units.{i}.{task}.shares" for i in range(4) for task in TASKS[:2]}


@pytest.mark.parametrize(
    ("tasks", "backbone", "message"),
    [(["age"], "test_resnet", "found 1; take sharing=hard"), (TASKS, "test_vit", "stages .* found VisionTransformer")],
)
def test_cross_stitch_refuses_one_task_and_backbones_without_stages(tasks, backbone: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CrossStitchSharing(tasks, backbone)


def with_open_masks(sharing: AttentionSharing) -> AttentionSharing:
    """Set all masks to 1: "the mask becomes an identity map" (the paper)."""
    for module in sharing.modules():
        if isinstance(module, TaskAttention):
            last = module.mask[-2]
            assert isinstance(last, nn.BatchNorm2d)
            nn.init.zeros_(last.weight)
            nn.init.constant_(last.bias, 100.0)
    return sharing


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_convnext", "test_mambaout"])
def test_masks_of_1_equal_hard_sharing(backbone: str) -> None:
    torch.manual_seed(0)
    sharing = with_open_masks(AttentionSharing(TASKS, backbone)).eval()
    with torch.no_grad():
        features, plain = sharing(IMAGES), sharing.backbone(IMAGES)
    assert tuple(features) == TASKS
    for each in features.values():
        torch.testing.assert_close(each, plain)


def test_stage_attention_follows_the_paper() -> None:
    """Liu et al. 2019, equations 1 and 2: sigmoid(h(g([u; f(before)]))) times p, with u = p the stage's own map."""
    torch.manual_seed(0)
    stage = StageAttention(TASKS[:2], 6, 8, squeeze=2).eval()
    shared = torch.randn(2, 8, 4, 4)
    previous = {task: torch.randn(2, 6, 8, 8) for task in TASKS[:2]}
    masked = stage(shared, previous)
    for task, previous_map in previous.items():
        f_conv, f_norm, _ = stage.carry
        g_conv, g_norm, _, h_conv, h_norm, _ = stage.tasks[task].mask
        carried = F.avg_pool2d(torch.relu(f_norm(F.conv2d(previous_map, f_conv.weight, padding=1))), 2)
        hidden = torch.relu(
            g_norm(torch.einsum("oi,bihw->bohw", g_conv.weight[..., 0, 0], torch.cat([shared, carried], 1)))
        )
        mask = torch.sigmoid(h_norm(torch.einsum("oi,bihw->bohw", h_conv.weight[..., 0, 0], hidden)))
        torch.testing.assert_close(masked[task], mask * shared)
        assert g_conv.out_channels == f_conv.out_channels == 4


def test_a_task_trains_its_own_masks_and_the_shared_layers() -> None:
    torch.manual_seed(0)
    sharing = AttentionSharing(TASKS, "test_resnet").eval()  # in train mode the tasks share batch statistics
    sharing(IMAGES)["age"].square().sum().backward()
    assert all(parameter.grad is not None for parameter in sharing.backbone.parameters())
    for name, parameter in sharing.attention.named_parameters():
        its = ".tasks.age." in name or ".carry." in name
        assert (parameter.grad is not None and bool(parameter.grad.any())) == its, name


def test_masks_are_in_the_group_of_the_heads() -> None:
    sharing = AttentionSharing(TASKS, "test_resnet")
    groups = sharing.layer_groups()
    assert list(groups) == ["stem", "block1", "block2", "block3", "block4", "heads"]
    assert groups["heads"].keys() == {f"attention.{name}" for name, _ in sharing.attention.named_parameters()}


def test_masks_add_less_than_a_tenth_of_the_parameters() -> None:
    with torch.device("meta"):
        sharing, plain = AttentionSharing(TASKS, "resnet34"), create_backbone("resnet34")
    assert 1.0 < count_parameters(sharing) / count_parameters(plain) < 1.1


def test_attention_takes_a_single_task() -> None:
    assert AttentionSharing(["age"], "test_resnet").eval()(IMAGES)["age"].shape == (4, 96)
