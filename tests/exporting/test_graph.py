"""The exported graph against the package's own normalisation, heads, averaging and calibration."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from exporting_members import ARCHITECTURE, make_member
from torch import Tensor
from torch.nn import functional as F

from mask_lightning.data.batching import normalise
from mask_lightning.exporting.graph import ExportGraph, Member
from mask_lightning.inference.tta import average_log_probs


def expected(member: Member, photos: npt.NDArray[np.uint8], *, flip: bool) -> dict[str, Tensor]:
    """Probabilities as `inference.predict` computes them."""
    images = torch.from_numpy(photos).permute(0, 3, 1, 2)
    versions = [images, images.flip(3)] if flip else [images]
    passes = [
        member.network.log_probs(member.network(normalise(version, member.mean, member.std))) for version in versions
    ]
    found = {}
    for task in passes[0]:
        values = average_log_probs([each[task] for each in passes], "flip" if flip else "none")
        found[task] = F.log_softmax(values / member.temperatures.get(task, 1.0), dim=1).exp()
    return found


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("temperatures", [{}, {"mask": 2.0, "corn": 0.5}])
def test_a_network_answers_as_the_package_does(photos, flip: bool, temperatures: dict[str, float]) -> None:
    member = make_member(**temperatures)
    graph = ExportGraph([member], flip=flip)
    found, want = graph(torch.from_numpy(photos)), expected(member, photos, flip=flip)
    assert tuple(found) == graph.tasks == tuple(ARCHITECTURE["num_classes"])
    for task, values in want.items():
        torch.testing.assert_close(found[task], values, atol=1e-6, rtol=0)


def test_an_ensemble_answers_with_the_mean(photos) -> None:
    members = [make_member(seed) for seed in range(3)]
    found = ExportGraph(members)(torch.from_numpy(photos))
    parts = [expected(member, photos, flip=False) for member in members]
    for task, values in found.items():
        torch.testing.assert_close(values, sum(part[task] for part in parts) / 3, atol=1e-6, rtol=0)


def test_a_member_is_rebuilt_from_plain_values() -> None:
    member = make_member(mask=2.0)
    again = Member.from_plain(member.to_plain())
    assert again.to_plain() == member.to_plain()
    assert again.network.state_dict().keys() == member.network.state_dict().keys()
