"""Losses for the task age against coral-pytorch's recorded values and the papers' formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mask_lightning.labels import UNLABELLED
from mask_lightning.losses.ages import ClassAndNumberLoss, NumberLoss, OrdinalLoss, inverse_weights
from mask_lightning.losses.classification import ClassificationLoss
from mask_lightning.models.heads import CoralHead, CornHead
from mask_lightning.settings.loss import LossSettings

LOGITS = torch.tensor(
    [[2.0, -1.0, -3.0], [0.5, 0.2, -0.4], [1.5, 1.0, 0.3], [-2.0, -2.5, -4.0], [0.1, -0.1, -0.2], [3.0, 2.0, 1.0]]
)
TARGET = torch.tensor([1, 0, 3, 0, 2, 3])
COUNTS = [40, 20, 10, 5]
# coral_pytorch 1.4.0: coral_loss(LOGITS, levels_from_labelbatch(TARGET, 4)), corn_loss(LOGITS, TARGET, 4)
CORAL_PYTORCH = {False: 1.0904525464971824, True: 0.3912257033398037}


def asked(conditional: bool, target: int, question: int) -> bool:
    return not conditional or target >= question


def by_hand(conditional: bool, *, shift: np.ndarray | float = 0.0, weights: np.ndarray | None = None) -> float:
    """Mean of -log p over all questions asked, weighted by the photos' classes."""
    logits = LOGITS.double().numpy() + shift
    total, norm = 0.0, 0.0
    for i, target in enumerate(TARGET.tolist()):
        weight = 1.0 if weights is None else weights[target]
        questions = [k for k in range(3) if asked(conditional, target, k)]
        for k in questions:
            sign = 1 if target > k else -1
            total += weight * np.log1p(np.exp(-sign * logits[i, k]))
        norm += weight * (len(questions) if conditional else 1)
    return total / norm


@pytest.mark.parametrize("conditional", [False, True])
def test_losses_equal_coral_pytorchs(conditional: bool) -> None:
    loss = OrdinalLoss(COUNTS, conditional=conditional)(LOGITS, TARGET)
    assert loss.item() == pytest.approx(CORAL_PYTORCH[conditional], rel=1e-6)
    assert loss.item() == pytest.approx(by_hand(conditional), rel=1e-6)


@pytest.mark.parametrize("conditional", [False, True])
def test_class_weights_equal_scikit_learns(conditional: bool) -> None:
    weights = sum(COUNTS) / (4 * np.array(COUNTS))
    loss = OrdinalLoss(COUNTS, LossSettings(class_weights="balanced"), conditional=conditional)(LOGITS, TARGET)
    assert loss.item() == pytest.approx(by_hand(conditional, weights=weights), rel=1e-6)


@pytest.mark.parametrize("conditional", [False, True])
def test_logit_adjustment_shifts_each_question_by_its_log_odds(conditional: bool) -> None:
    def odds(counts: list[int]) -> np.ndarray:
        no = [counts[k] if conditional else sum(counts[: k + 1]) for k in range(3)]
        return np.log([sum(counts[k + 1 :]) / no[k] for k in range(3)])

    shift = 0.5 * (odds(COUNTS) - odds([1, 1, 1, 1]))
    loss = OrdinalLoss(COUNTS, LossSettings(logit_adjustment=0.5), conditional=conditional)(LOGITS, TARGET)
    assert loss.item() == pytest.approx(by_hand(conditional, shift=shift), rel=1e-6)


@pytest.mark.parametrize(("tau", "want"), [(0.0, np.array(COUNTS) / sum(COUNTS)), (1.0, np.full(4, 0.25))])
@pytest.mark.parametrize(("head", "conditional"), [(CoralHead(1, 4), False), (CornHead(1, 4), True)])
def test_logit_adjustment_balances_the_networks_logits(head, conditional: bool, tau: float, want: np.ndarray) -> None:
    """On constant features, plain training converges to the class frequencies, adjusted training to equal shares."""
    target = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
    logits = torch.tensor([0.5, 0.0, -0.5], requires_grad=True)
    loss = OrdinalLoss(COUNTS, LossSettings(logit_adjustment=tau), conditional=conditional)
    optimizer = torch.optim.LBFGS([logits], max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(logits.expand(len(target), 3), target)
        value.backward()
        return value

    optimizer.step(closure)
    np.testing.assert_allclose(head.log_probs(logits[None]).exp().detach().numpy()[0], want, atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"class_weights": "balanced"}, {"logit_adjustment": 1.0}])
@pytest.mark.parametrize("conditional", [False, True])
def test_photos_without_a_label_are_left_out(conditional: bool, options: dict) -> None:
    loss = OrdinalLoss(COUNTS, LossSettings(**options), conditional=conditional)
    labelled = torch.tensor([True, True, False, True, False, False])
    logits = LOGITS.clone().requires_grad_()
    found = loss(logits, torch.where(labelled, TARGET, UNLABELLED))
    torch.testing.assert_close(found, loss(LOGITS[labelled], TARGET[labelled]))
    found.backward()
    assert (logits.grad[~labelled] == 0).all()
    nothing = loss(LOGITS.clone().requires_grad_(), torch.full((6,), UNLABELLED))
    nothing.backward()
    assert nothing.item() == 0.0


RNG = np.random.default_rng(0)
YEARS_SEEN = np.concatenate([RNG.integers(18, 35, 300), RNG.integers(35, 60, 60), np.full(9, 60)])
YEAR_COUNTS = np.bincount(YEARS_SEEN, minlength=61).astype(float)
OUTPUTS = torch.tensor([[0.2], [-1.0], [2.5], [0.0], [4.0]])
YEARS = torch.tensor([25.0, 47.0, 83.0, 60.0, float("nan")])


def predicted_years() -> np.ndarray:
    return 60 / (1 + np.exp(-OUTPUTS.double().numpy()[:, 0]))


def test_without_weights_the_loss_is_mse_in_decades_with_ages_clipped_at_top() -> None:
    loss = NumberLoss(YEAR_COUNTS, top=60, weights="none")(OUTPUTS, torch.zeros(5), YEARS)
    errors = (predicted_years()[:4] - np.array([25, 47, 60, 60])) / 10
    assert loss.item() == pytest.approx((errors**2).mean(), rel=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 5.0])
def test_weights_are_the_inverse_of_the_smoothed_frequency(sigma: float) -> None:
    """Yang et al. 2021, eq. 1: density of an age = sum over ages of kernel times frequency."""
    years = np.arange(61)
    kernel = np.exp(-0.5 * ((years[:, None] - years[None]) / sigma) ** 2)
    reach = int(4 * sigma + 0.5)  # SciPy truncates the kernel here; the paper truncates its kernel too
    kernel[np.abs(years[:, None] - years[None]) > reach] = 0
    want = np.zeros(61)
    want[YEAR_COUNTS > 0] = 1 / (kernel @ YEAR_COUNTS)[YEAR_COUNTS > 0]
    want *= len(YEARS_SEEN) / want[YEARS_SEEN].sum()
    np.testing.assert_allclose(inverse_weights(YEAR_COUNTS, smoothing=sigma), want, rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_weights_have_mean_1_over_the_photos_and_are_larger_for_rare_ages(sigma: float) -> None:
    weights = inverse_weights(YEAR_COUNTS, smoothing=sigma)
    assert weights[YEARS_SEEN].mean() == pytest.approx(1)
    assert weights[59] > weights[25]
    assert (weights[:18] == 0).all()
    if not sigma:
        np.testing.assert_allclose(
            weights[YEAR_COUNTS > 0] * YEAR_COUNTS[YEAR_COUNTS > 0], len(YEARS_SEEN) / (YEAR_COUNTS > 0).sum()
        )


def test_smoothing_makes_weights_of_neighbouring_ages_similar() -> None:
    uneven = YEAR_COUNTS.copy()
    uneven[40], uneven[41] = 1, 20
    plain, smooth = (inverse_weights(uneven, smoothing=sigma) for sigma in (0.0, 2.0))
    assert plain[40] == pytest.approx(20 * plain[41])
    assert smooth[40] < 1.5 * smooth[41]


def test_each_photo_has_the_weight_of_its_age() -> None:
    weights = inverse_weights(YEAR_COUNTS, smoothing=2.0)
    truth = np.array([25, 47, 60, 60])
    want = (weights[truth] * ((predicted_years()[:4] - truth) / 10) ** 2).mean()
    found = NumberLoss(YEAR_COUNTS, top=60, weights="inverse", smoothing=2.0)(OUTPUTS, torch.zeros(5), YEARS)
    assert found.item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("years", [YEARS, torch.full((5,), float("nan"))])
def test_photos_of_unknown_age_have_no_gradient(years: torch.Tensor) -> None:
    outputs = OUTPUTS.clone().requires_grad_()
    loss = NumberLoss(YEAR_COUNTS, top=60)(outputs, torch.zeros(5), years)
    loss.backward()
    assert torch.isfinite(loss)
    assert (outputs.grad[years.isnan()] == 0).all()
    assert (outputs.grad[~years.isnan()] != 0).all()


def test_loss_of_classes_and_number_is_their_weighted_sum() -> None:
    target = torch.tensor([0, 1, 2, UNLABELLED, 1])
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    classes, number = ClassificationLoss([5, 3, 1], LossSettings(label_smoothing=0.1)), NumberLoss(YEAR_COUNTS, top=60)
    found = ClassAndNumberLoss(classes, number, share=0.1)(torch.cat([logits, OUTPUTS], dim=1), target, YEARS)
    torch.testing.assert_close(found, classes(logits, target) + 0.1 * number(OUTPUTS, target, YEARS))
