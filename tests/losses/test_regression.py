"""The loss of numbers against the paper's formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mask_lightning.labels import UNLABELLED
from mask_lightning.losses.classification import ClassificationLoss
from mask_lightning.losses.regression import ClassAndNumberLoss, NumberLoss, inverse_weights

RNG = np.random.default_rng(0)
AGES = np.concatenate([RNG.integers(18, 35, 300), RNG.integers(35, 60, 60), np.full(9, 60)])
COUNTS = np.bincount(AGES, minlength=61).astype(float)
OUTPUTS = torch.tensor([[0.2], [-1.0], [2.5], [0.0], [4.0]])
YEARS = torch.tensor([25.0, 47.0, 83.0, 60.0, float("nan")])


def said() -> np.ndarray:
    return 60 / (1 + np.exp(-OUTPUTS.double().numpy()[:, 0]))


def test_without_weights_it_is_mse_in_decades_and_older_ages_count_as_the_top() -> None:
    loss = NumberLoss(COUNTS, top=60, weights="none")(OUTPUTS, torch.zeros(5), YEARS)
    errors = (said()[:4] - np.array([25, 47, 60, 60])) / 10
    assert loss.item() == pytest.approx((errors**2).mean(), rel=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 5.0])
def test_weights_are_the_inverse_of_the_smoothed_frequency(sigma: float) -> None:
    """Yang et al. 2021, eq. 1: the density at an age is the sum over ages of the kernel times their frequency."""
    years = np.arange(61)
    kernel = np.exp(-0.5 * ((years[:, None] - years[None]) / sigma) ** 2)
    reach = int(4 * sigma + 0.5)  # SciPy's; the paper cuts its kernel off, too
    kernel[np.abs(years[:, None] - years[None]) > reach] = 0
    want = np.zeros(61)
    want[COUNTS > 0] = 1 / (kernel @ COUNTS)[COUNTS > 0]
    want *= len(AGES) / want[AGES].sum()
    np.testing.assert_allclose(inverse_weights(COUNTS, smoothing=sigma), want, rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_weights_of_the_training_photos_have_the_mean_1_and_rise_where_photos_are_rare(sigma: float) -> None:
    weights = inverse_weights(COUNTS, smoothing=sigma)
    assert weights[AGES].mean() == pytest.approx(1)
    assert weights[59] > weights[25]
    assert (weights[:18] == 0).all()
    if not sigma:
        np.testing.assert_allclose(weights[COUNTS > 0] * COUNTS[COUNTS > 0], len(AGES) / (COUNTS > 0).sum())


def test_smoothing_evens_out_neighbouring_ages() -> None:
    uneven = COUNTS.copy()
    uneven[40], uneven[41] = 1, 20
    plain, smooth = (inverse_weights(uneven, smoothing=sigma) for sigma in (0.0, 2.0))
    assert plain[40] == pytest.approx(20 * plain[41])
    assert smooth[40] < 1.5 * smooth[41]


def test_a_photo_counts_by_the_weight_of_its_age() -> None:
    weights = inverse_weights(COUNTS, smoothing=2.0)
    truth = np.array([25, 47, 60, 60])
    want = (weights[truth] * ((said()[:4] - truth) / 10) ** 2).mean()
    found = NumberLoss(COUNTS, top=60, weights="inverse", smoothing=2.0)(OUTPUTS, torch.zeros(5), YEARS)
    assert found.item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("years", [YEARS, torch.full((5,), float("nan"))])
def test_an_unknown_age_costs_nothing(years: torch.Tensor) -> None:
    outputs = OUTPUTS.clone().requires_grad_()
    loss = NumberLoss(COUNTS, top=60)(outputs, torch.zeros(5), years)
    loss.backward()
    assert torch.isfinite(loss)
    assert (outputs.grad[years.isnan()] == 0).all()
    assert (outputs.grad[~years.isnan()] != 0).all()


def test_beside_the_classes_it_has_its_share() -> None:
    target = torch.tensor([0, 1, 2, UNLABELLED, 1])
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    classes, number = ClassificationLoss([5, 3, 1], label_smoothing=0.1), NumberLoss(COUNTS, top=60)
    found = ClassAndNumberLoss(classes, number, share=0.1)(torch.cat([logits, OUTPUTS], dim=1), target, YEARS)
    torch.testing.assert_close(found, classes(logits, target) + 0.1 * number(OUTPUTS, target, YEARS))
