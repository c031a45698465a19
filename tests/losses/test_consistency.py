from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr

from mask_lightning.losses.consistency import symmetric_kl


def test_it_is_the_mean_of_scipys_divergences_over_the_pairs_of_a_person() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    person = torch.tensor([4, 4, 7, 4, 9, 7])
    p = logits.softmax(dim=1).double().numpy()
    pairs = [(0, 1), (0, 3), (1, 3), (2, 5)]
    want = np.mean([(rel_entr(p[i], p[j]) + rel_entr(p[j], p[i])).sum() / 2 for i, j in pairs])
    assert symmetric_kl(logits.log_softmax(dim=1), person).item() == pytest.approx(want, rel=1e-5)


def test_without_pairs_it_is_zero_and_has_a_gradient() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    loss = symmetric_kl(logits.log_softmax(dim=1), torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(3, 2))  # type: ignore[arg-type]
