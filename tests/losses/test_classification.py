"""Losses against the papers' formulas in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_class_weight

from mask_lightning.data.samples import Mix
from mask_lightning.labels import UNLABELLED
from mask_lightning.losses.classification import ClassificationLoss, soft_f1_loss
from mask_lightning.losses.task_losses import mixed_loss, validation_loss
from mask_lightning.losses.weighting import weighted_sum
from mask_lightning.settings.loss import LossSettings

COUNTS = [500, 100, 10]
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(8, 3, generator=GENERATOR)
TARGET = torch.tensor([0, 1, 2, 0, 0, 2, 1, 0])
LABELLED = torch.tensor([True, False, True, True, False, True, False, False])
WEIGHTS = compute_class_weight("balanced", classes=np.arange(3), y=np.repeat(np.arange(3), COUNTS))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return np.log(exp / exp.sum(1, keepdims=True))


def formula(*, smoothing: float = 0.0, tau: float = 0.0) -> float:
    """Menon et al. 2021, eq. 10, on the smoothed targets of Szegedy et al. 2016, section 7."""
    logits = LOGITS.double().numpy() + tau * np.log(np.array(COUNTS) / sum(COUNTS))
    wanted = (1 - smoothing) * np.eye(3)[TARGET.numpy()] + smoothing / 3
    return float(-(wanted * log_softmax(logits)).sum(1).mean())


@pytest.mark.parametrize(
    "options", [{}, {"smoothing": 0.1}, {"tau": 1.0}, {"tau": 0.5}, {"smoothing": 0.2, "tau": 2.0}]
)
def test_training_follows_the_formula(options: dict[str, float]) -> None:
    settings = LossSettings(label_smoothing=options.get("smoothing", 0.0), logit_adjustment=options.get("tau", 0.0))
    loss = ClassificationLoss(COUNTS, settings)
    assert loss.train()(LOGITS, TARGET).item() == pytest.approx(formula(**options), rel=1e-5)


def test_validation_loss_is_plain_cross_entropy() -> None:
    """val/loss can then be compared between runs with different training losses."""
    log_probs = LOGITS.log_softmax(dim=1)
    assert validation_loss(log_probs, TARGET).item() == pytest.approx(formula(), rel=1e-5)
    kept = torch.nn.functional.cross_entropy(LOGITS[LABELLED], TARGET[LABELLED])
    torch.testing.assert_close(validation_loss(log_probs, torch.where(LABELLED, TARGET, UNLABELLED)), kept)
    assert validation_loss(log_probs, torch.full((8,), UNLABELLED)).item() == 0.0


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_focal_loss_follows_the_paper(gamma: float, weighted: bool) -> None:
    """Lin et al. 2017, eq. 5: -alpha (1 - p) ** gamma log(p), p the probability of the truth, in NumPy."""
    loss = ClassificationLoss(COUNTS, LossSettings(focal_gamma=gamma, class_weights="balanced" if weighted else "none"))
    logs = log_softmax(LOGITS.double().numpy())[np.arange(8), TARGET.numpy()]
    alphas = WEIGHTS[TARGET.numpy()] if weighted else np.ones(8)
    want = -(alphas * (1 - np.exp(logs)) ** gamma * logs).sum() / alphas.sum()
    assert loss(LOGITS, TARGET).item() == pytest.approx(want, rel=1e-5)


def test_focal_loss_of_a_learned_photo_has_no_gradient() -> None:
    logits = torch.tensor([[80.0, 0.0, 0.0]], requires_grad=True)
    ClassificationLoss(COUNTS, LossSettings(focal_gamma=0.5))(logits, torch.tensor([0])).backward()
    assert logits.grad.abs().max() < 1e-3


def test_soft_f1_of_confident_preds_is_scikit_learns_macro_f1() -> None:
    truth, preds = torch.tensor([0, 0, 1, 1, 1, 0]), torch.tensor([0, 1, 1, 1, 0, 2])
    found = soft_f1_loss(100.0 * torch.nn.functional.one_hot(preds, 3), truth)
    # class 2 has no photo in the batch and is left out
    assert 1 - found.item() == pytest.approx(f1_score(truth, preds, labels=[0, 1], average="macro"))


def test_soft_f1_sums_probabilities() -> None:
    """2 TP / (2 TP + FP + FN) by hand, per class of the batch, added to the cross-entropy."""
    target = torch.where(LABELLED, TARGET, UNLABELLED)
    probs, truth = np.exp(log_softmax(LOGITS.double().numpy()))[LABELLED.numpy()], TARGET[LABELLED].numpy()
    f1 = []
    for i in sorted(set(truth)):
        tp, fp, fn = probs[truth == i, i].sum(), probs[truth != i, i].sum(), (1 - probs[truth == i, i]).sum()
        f1.append(2 * tp / (2 * tp + fp + fn))
    assert soft_f1_loss(LOGITS, target).item() == pytest.approx(1 - np.mean(f1), rel=1e-5)
    plain, both = (
        ClassificationLoss(COUNTS, LossSettings(soft_f1=weight))(LOGITS, target).item() for weight in (0.0, 0.5)
    )
    assert both - plain == pytest.approx(0.5 * (1 - np.mean(f1)), rel=1e-4)


def test_an_absent_class_has_no_effect_without_adjustment() -> None:
    assert ClassificationLoss([5, 3, 0])(LOGITS, TARGET).item() == pytest.approx(formula(), rel=1e-5)


def test_logit_adjustment_balances_the_networks_logits() -> None:
    """On constant features, plain training converges to the class frequencies, adjusted training to equal shares."""
    target = torch.tensor([0] * 8 + [1] * 2)
    for tau, want in ((0.0, [0.8, 0.2]), (1.0, [0.5, 0.5])):
        logits = torch.zeros(2, requires_grad=True)
        loss = ClassificationLoss([8, 2], LossSettings(logit_adjustment=tau)).train()
        optimizer = torch.optim.LBFGS([logits], max_iter=50)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()  # noqa: B023 (called within the iteration)
            value = loss(logits.expand(10, 2), target)  # noqa: B023
            value.backward()
            return value

        optimizer.step(closure)
        np.testing.assert_allclose(logits.softmax(0).detach().numpy(), want, atol=1e-3)


def test_class_frequencies_are_not_in_checkpoints() -> None:
    """They follow from the class counts in the hyper-parameters."""
    assert list(ClassificationLoss(COUNTS, LossSettings(class_weights="balanced")).state_dict()) == []


@pytest.mark.parametrize(
    ("weights", "want"),
    [({"mask": 1.0, "age": 1.0}, 5.0), ({"mask": 0.5, "age": 2.0}, 7.0), ({"mask": 0.0, "age": 1.0, "hat": 9.0}, 3.0)],
)
def test_weighted_sum_of_tasks(weights: dict[str, float], want: float) -> None:
    losses = {"mask": torch.tensor(2.0, requires_grad=True), "age": torch.tensor(3.0, requires_grad=True)}
    total = weighted_sum(losses, weights)
    assert total.shape == ()
    assert total.item() == want
    total.backward()
    assert {task: float(loss.grad) for task, loss in losses.items()} == {task: weights[task] for task in losses}


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"logit_adjustment": 1.0}])
def test_photos_without_a_label_are_left_out(options: dict[str, float]) -> None:
    """Loss and gradients are those of the labelled photos only."""
    loss = ClassificationLoss(COUNTS, LossSettings(**options)).train()
    logits = LOGITS.clone().requires_grad_()
    found = loss(logits, torch.where(LABELLED, TARGET, UNLABELLED))
    adjusted = LOGITS + options.get("logit_adjustment", 0.0) * torch.tensor([c / sum(COUNTS) for c in COUNTS]).log()
    want = torch.nn.functional.cross_entropy(
        adjusted[LABELLED], TARGET[LABELLED], label_smoothing=options.get("label_smoothing", 0.0)
    )
    assert found.item() == pytest.approx(want.item(), rel=1e-6)
    found.backward()
    assert (logits.grad[~LABELLED] == 0).all()
    assert (logits.grad[LABELLED] != 0).any(dim=1).all()


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1}, {"logit_adjustment": 1.0}, {"focal_gamma": 2.0}, {"soft_f1": 1.0}]
)
def test_a_batch_without_labels_has_loss_and_gradient_zero(options: dict[str, float]) -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = ClassificationLoss(COUNTS, LossSettings(**options)).train()(logits, torch.full((8,), UNLABELLED))
    loss.backward()
    assert loss.item() == 0.0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("target", [TARGET, torch.where(LABELLED, TARGET, UNLABELLED)])
def test_balanced_weights_equal_scikit_learns_and_the_weighted_mean_torchs(
    smoothing: float, target: torch.Tensor
) -> None:
    loss = ClassificationLoss(COUNTS, LossSettings(label_smoothing=smoothing, class_weights="balanced")).train()
    weights = torch.tensor(WEIGHTS, dtype=torch.float32)
    logits, reference = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    want = torch.nn.functional.cross_entropy(
        reference, target, weight=weights, ignore_index=UNLABELLED, label_smoothing=smoothing
    )
    found = loss(logits, target)
    torch.testing.assert_close(found, want)
    found.backward()
    want.backward()
    torch.testing.assert_close(logits.grad, reference.grad)


def test_a_weighted_batch_without_labels_has_loss_and_gradient_zero() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = ClassificationLoss(COUNTS, LossSettings(class_weights="balanced")).train()(
        logits, torch.full((8,), UNLABELLED)
    )
    loss.backward()
    assert loss.item() == 0.0
    assert (logits.grad == 0).all()


MIX = Mix(partner=torch.tensor([3, 2, 1, 0, 4, 6, 7, 5]), share=0.7)


@pytest.mark.parametrize("target", [TARGET, torch.where(LABELLED, TARGET, UNLABELLED)])
@pytest.mark.parametrize(
    "options",
    [{}, {"label_smoothing": 0.1}, {"logit_adjustment": 0.5}, {"class_weights": "balanced", "label_smoothing": 0.2}],
)
def test_a_mixed_photo_counts_with_both_targets_by_their_shares(options: dict[str, Any], target: torch.Tensor) -> None:
    """By hand, for each photo and each of its targets: weight x share x loss, over the sum of weight x share."""
    smoothing, tau = options.get("label_smoothing", 0.0), options.get("logit_adjustment", 0.0)
    logs = log_softmax(LOGITS.double().numpy() + tau * np.log(np.array(COUNTS) / sum(COUNTS)))
    weights = WEIGHTS if "class_weights" in options else np.ones(3)
    total, norm = 0.0, 0.0
    for i, other in enumerate(MIX.partner.tolist()):
        for share, label in ((0.7, int(target[i])), (0.3, int(target[other]))):
            if label != UNLABELLED:
                wanted = (1 - smoothing) * np.eye(3)[label] + smoothing / 3
                total -= share * (wanted * logs[i] * weights).sum()
                norm += share * weights[label]
    loss = ClassificationLoss(COUNTS, LossSettings(**options)).train()
    assert mixed_loss(loss, LOGITS, target, None, MIX).item() == pytest.approx(total / norm, rel=1e-5)


def test_no_mix_and_a_mix_with_oneself_change_nothing() -> None:
    loss = ClassificationLoss(COUNTS, LossSettings(label_smoothing=0.1)).train()
    want = loss(LOGITS, TARGET)
    assert torch.equal(mixed_loss(loss, LOGITS, TARGET, None, None), want)
    torch.testing.assert_close(mixed_loss(loss, LOGITS, TARGET, None, Mix(MIX.partner, 1.0)), want)
    torch.testing.assert_close(mixed_loss(loss, LOGITS, TARGET, None, Mix(torch.arange(8), 0.4)), want)
