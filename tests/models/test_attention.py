"""Masks per task over one backbone: what they leave, what learns them, and how little they weigh."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mask_lightning.models.attention import AttentionSharing, StageAttention, TaskAttention
from mask_lightning.models.backbones import count_parameters, create_backbone

TASKS = ("mask", "gender", "age")
IMAGES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def opened(sharing: AttentionSharing) -> AttentionSharing:
    """Masks of 1 everywhere: "the mask becomes an identity map", as the paper has it."""
    for module in sharing.modules():
        if isinstance(module, TaskAttention):
            last = module.mask[-2]
            assert isinstance(last, nn.BatchNorm2d)
            nn.init.zeros_(last.weight)
            nn.init.constant_(last.bias, 100.0)
    return sharing


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_convnext", "test_mambaout"])
def test_open_masks_leave_hard_sharing(backbone: str) -> None:
    torch.manual_seed(0)
    sharing = opened(AttentionSharing(TASKS, backbone)).eval()
    with torch.no_grad():
        features, plain = sharing(IMAGES), sharing.backbone(IMAGES)
    assert tuple(features) == TASKS
    for each in features.values():
        torch.testing.assert_close(each, plain)


def test_a_stage_is_masked_as_in_the_paper() -> None:
    """Liu et al. 2019, equations 1 and 2: sigmoid(h(g([u; f(before)]))) times p, with u = p the stage's own map."""
    torch.manual_seed(0)
    stage = StageAttention(TASKS[:2], 6, 8, squeeze=2).eval()
    shared = torch.randn(2, 8, 4, 4)
    before = {task: torch.randn(2, 6, 8, 8) for task in TASKS[:2]}
    taken = stage(shared, before)
    for task, map_before in before.items():
        f_conv, f_norm, _ = stage.carry
        g_conv, g_norm, _, h_conv, h_norm, _ = stage.tasks[task].mask
        carried = F.avg_pool2d(torch.relu(f_norm(F.conv2d(map_before, f_conv.weight, padding=1))), 2)
        hidden = torch.relu(
            g_norm(torch.einsum("oi,bihw->bohw", g_conv.weight[..., 0, 0], torch.cat([shared, carried], 1)))
        )
        mask = torch.sigmoid(h_norm(torch.einsum("oi,bihw->bohw", h_conv.weight[..., 0, 0], hidden)))
        torch.testing.assert_close(taken[task], mask * shared)
        assert g_conv.out_channels == f_conv.out_channels == 4


def test_each_task_learns_its_own_masks_and_the_shared_rest() -> None:
    torch.manual_seed(0)
    sharing = AttentionSharing(TASKS, "test_resnet").eval()  # tasks are one batch, whose statistics they share
    sharing(IMAGES)["age"].square().sum().backward()
    assert all(parameter.grad is not None for parameter in sharing.backbone.parameters())
    for name, parameter in sharing.attention.named_parameters():
        its = ".tasks.age." in name or ".carry." in name
        assert (parameter.grad is not None and bool(parameter.grad.any())) == its, name


def test_masks_learn_with_the_heads_and_leave_the_backbones_groups_as_they_are() -> None:
    sharing = AttentionSharing(TASKS, "test_resnet")
    groups = sharing.layer_groups()
    assert list(groups) == ["stem", "block1", "block2", "block3", "block4", "heads"]
    assert groups["heads"].keys() == {f"attention.{name}" for name, _ in sharing.attention.named_parameters()}


def test_masks_are_light() -> None:
    with torch.device("meta"):
        sharing, plain = AttentionSharing(TASKS, "resnet34"), create_backbone("resnet34")
    assert 1.0 < count_parameters(sharing) / count_parameters(plain) < 1.1


def test_one_task_may_attend_to_its_own_network() -> None:
    assert AttentionSharing(["age"], "test_resnet").eval()(IMAGES)["age"].shape == (4, 96)
