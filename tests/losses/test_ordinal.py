"""Ordinal losses against coral-pytorch's recorded values and the papers' formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mask_lightning.labels import UNLABELLED
from mask_lightning.losses.ordinal import OrdinalLoss
from mask_lightning.models.heads import CoralHead, CornHead

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
    """The mean of -log p of every answer, each photo with the weight of its class, question by question."""
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
def test_losses_are_coral_pytorchs(conditional: bool) -> None:
    loss = OrdinalLoss(COUNTS, conditional=conditional)(LOGITS, TARGET)
    assert loss.item() == pytest.approx(CORAL_PYTORCH[conditional], rel=1e-6)
    assert loss.item() == pytest.approx(by_hand(conditional), rel=1e-6)


@pytest.mark.parametrize("conditional", [False, True])
def test_class_weights_are_those_of_scikit_learn(conditional: bool) -> None:
    weights = sum(COUNTS) / (4 * np.array(COUNTS))
    loss = OrdinalLoss(COUNTS, conditional=conditional, class_weights="balanced")(LOGITS, TARGET)
    assert loss.item() == pytest.approx(by_hand(conditional, weights=weights), rel=1e-6)


@pytest.mark.parametrize("conditional", [False, True])
def test_logit_adjustment_shifts_each_question_by_its_odds(conditional: bool) -> None:
    def odds(counts: list[int]) -> np.ndarray:
        no = [counts[k] if conditional else sum(counts[: k + 1]) for k in range(3)]
        return np.log([sum(counts[k + 1 :]) / no[k] for k in range(3)])

    shift = 0.5 * (odds(COUNTS) - odds([1, 1, 1, 1]))
    loss = OrdinalLoss(COUNTS, conditional=conditional, logit_adjustment=0.5)(LOGITS, TARGET)
    assert loss.item() == pytest.approx(by_hand(conditional, shift=shift), rel=1e-6)


@pytest.mark.parametrize(("tau", "want"), [(0.0, np.array(COUNTS) / sum(COUNTS)), (1.0, np.full(4, 0.25))])
@pytest.mark.parametrize(("head", "conditional"), [(CoralHead(1, 4), False), (CornHead(1, 4), True)])
def test_adjusted_logits_leave_the_networks_own_balanced(head, conditional: bool, tau: float, want: np.ndarray) -> None:
    """Trained on constant features, plain answers end at the classes' shares, adjusted ones at equal shares."""
    target = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
    logits = torch.tensor([0.5, 0.0, -0.5], requires_grad=True)
    loss = OrdinalLoss(COUNTS, conditional=conditional, logit_adjustment=tau)
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
def test_photos_without_a_label_do_not_count(conditional: bool, options: dict) -> None:
    loss = OrdinalLoss(COUNTS, conditional=conditional, **options)
    labelled = torch.tensor([True, True, False, True, False, False])
    logits = LOGITS.clone().requires_grad_()
    found = loss(logits, torch.where(labelled, TARGET, UNLABELLED))
    torch.testing.assert_close(found, loss(LOGITS[labelled], TARGET[labelled]))
    found.backward()
    assert (logits.grad[~labelled] == 0).all()
    nothing = loss(LOGITS.clone().requires_grad_(), torch.full((6,), UNLABELLED))
    nothing.backward()
    assert nothing.item() == 0.0
