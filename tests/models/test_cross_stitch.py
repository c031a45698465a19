"""Cross-stitch units against the paper's equation, and where they lie between the networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mask_lightning.errors import ConfigError
from mask_lightning.models.cross_stitch import CrossStitchSharing, Mixture
from mask_lightning.models.sharing import NoSharing

TASKS = ("mask", "gender", "age")
IMAGES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channel_dim", [1, 3])
@pytest.mark.parametrize(("tasks", "own"), [(2, 0.9), (3, 0.7)])
def test_a_mixture_is_the_papers(tasks: int, own: float, channel_dim: int) -> None:
    """Misra et al. 2016, equation 2, for each channel: the shares times the maps at one place, added."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 5, 3, 4, generator=generator) for _ in range(tasks)]
    mixture = Mixture(tasks, 1, 5, own=own, channel_dim=channel_dim)
    start = np.array([own if i == 1 else (1 - own) / (tasks - 1) for i in range(tasks)])
    np.testing.assert_allclose(mixture.shares.detach(), np.repeat(start[:, None], 5, axis=1), rtol=1e-6)
    with torch.no_grad():
        mixture.shares.copy_(torch.randn(tasks, 5, generator=generator))
        mixed = mixture([each.movedim(1, channel_dim) for each in maps]).movedim(channel_dim, 1)
    want = np.einsum("tc,tbchw->bchw", mixture.shares.detach().numpy(), np.stack([each.numpy() for each in maps]))
    np.testing.assert_allclose(mixed, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_convnext", "test_mambaout"])
def test_units_that_mix_nothing_leave_separate_networks(backbone: str) -> None:
    torch.manual_seed(0)
    stitched = CrossStitchSharing(TASKS, backbone, own=1.0).eval()
    separate = NoSharing(TASKS, backbone).eval()
    separate.load_state_dict({name: value for name, value in stitched.state_dict().items() if "units" not in name})
    with torch.no_grad():
        ours, theirs = stitched(IMAGES), separate(IMAGES)
    assert ours.keys() == theirs.keys()
    for task, features in ours.items():
        torch.testing.assert_close(features, theirs[task])


def test_every_task_reaches_every_network() -> None:
    torch.manual_seed(0)
    sharing = CrossStitchSharing(TASKS, "test_resnet").train()
    sharing(IMAGES)["age"].sum().backward()
    assert all(parameter.grad is not None for trunk in sharing.backbones for parameter in trunk.parameters())
    last = sharing.units[-1]  # behind it nothing is mixed any more
    assert {task: mixture.shares.grad is not None for task, mixture in last.items()} == {
        "mask": False,
        "gender": False,
        "age": True,
    }


def test_a_unit_learns_with_the_block_that_it_follows() -> None:
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
def test_what_cannot_be_stitched(tasks, backbone: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CrossStitchSharing(tasks, backbone)
