from __future__ import annotations

import numpy as np
import pytest
import torch

from mask_lightning.models.heads import ClassHead

FEATURES = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))


def test_logits_are_a_linear_function_of_the_features() -> None:
    head = ClassHead(10, 3, drop_rate=0.5).eval()
    weight, bias = head.linear.weight.detach().numpy(), head.linear.bias.detach().numpy()
    want = FEATURES.numpy() @ weight.T + bias
    np.testing.assert_allclose(head(FEATURES).detach().numpy(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("drop_rate", "dropped"), [(0.0, 0.0), (0.5, 0.5), (0.9, 0.9)])
def test_features_are_dropped_in_training(drop_rate: float, dropped: float) -> None:
    torch.manual_seed(0)
    head = ClassHead(2000, 2, drop_rate=drop_rate).train()
    seen: list[torch.Tensor] = []
    head.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head(torch.ones(1, 2000))
    assert (seen[0] == 0).float().mean().item() == pytest.approx(dropped, abs=0.05)
