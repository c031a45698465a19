from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mask_lightning.models.heads import HEADS, ClassHead, CoralHead, CornHead, Head, RegressionHead, make_head
from mask_lightning.settings.model import HeadSettings

FEATURES = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
OPTIONS = {
    "regression": {"top": 60.0, "borders": [29.5, 59.5]},
    "classes_and_regression": {"top": 60.0},
}


def build_head(name: str, classes: int = 3) -> Head:
    torch.manual_seed(0)
    return make_head(10, classes, name=name, **OPTIONS.get(name, {}))


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


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_every_head_gives_probabilities_over_its_classes(name: str, dtype: torch.dtype, scale: float) -> None:
    head = build_head(name)
    outputs = head(scale * FEATURES).to(dtype)
    log_probs = head.log_probs(outputs)
    assert log_probs.shape == (6, 3)
    assert log_probs.dtype == torch.float32
    assert torch.isfinite(log_probs).all()
    torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", HEADS)
def test_scores_of_every_class_have_a_gradient(name: str) -> None:
    """Heat maps need a gradient for every class, also for confident preds."""
    head = build_head(name)
    features = (3 * FEATURES).requires_grad_()
    for scores in head.scores(head(features)).unbind(dim=1):
        (gradient,) = torch.autograd.grad(scores.sum(), features, retain_graph=True)
        assert (gradient != 0).any(dim=1).all()


YEARS = torch.tensor([2.0, 20.0, 29.0, 29.4, 29.6, 35.0, 44.0, 59.0, 59.4, 59.6, 59.9])


def test_the_pred_is_the_class_that_contains_the_age() -> None:
    head = build_head("regression")
    outputs = torch.logit(YEARS / 60)[:, None]
    torch.testing.assert_close(head.number(outputs), YEARS)
    want = np.digitize(YEARS.numpy(), [29.5, 59.5])
    assert head.log_probs(outputs).argmax(dim=1).tolist() == want.tolist()


def test_regression_classes_are_an_adjacent_categories_model() -> None:
    """Agresti 2010: log odds of neighbouring classes = distance to their border / 5 years."""
    log_probs = build_head("regression").log_probs(torch.logit(YEARS / 60)[:, None])
    for k, border in enumerate((29.5, 59.5)):
        torch.testing.assert_close(log_probs[:, k + 1] - log_probs[:, k], (YEARS - border) / 5, atol=1e-3, rtol=1e-4)


def test_a_temperature_scales_the_years_per_logit() -> None:
    outputs = torch.logit(YEARS / 60)[:, None]
    wide = RegressionHead(10, 3, **OPTIONS["regression"])
    halved = F.log_softmax(wide.log_probs(outputs) / 2, dim=1)
    odds = (YEARS[:, None] - torch.tensor([29.5, 59.5])) / 10
    torch.testing.assert_close(halved[:, 1:] - halved[:, :-1], odds, atol=1e-3, rtol=1e-4)


def test_the_age_beside_classes_is_the_last_output() -> None:
    head = build_head("classes_and_regression")
    outputs = head(FEATURES)
    torch.testing.assert_close(head.log_probs(outputs), F.log_softmax(outputs[:, :3], dim=1))
    torch.testing.assert_close(head.number(outputs), 60 * outputs[:, 3].sigmoid())


@pytest.mark.parametrize("name", ["classes", "coral", "corn"])
def test_heads_of_classes_have_no_number(name: str) -> None:
    head = build_head(name)
    assert head.number(head(FEATURES)) is None


def test_coral_has_one_weight_vector_and_descending_biases() -> None:
    head = CoralHead(10, 4)
    assert {name: tuple(values.shape) for name, values in head.named_parameters()} == {
        "bias": (3,),
        "linear.weight": (1, 10),
    }
    outputs = head(FEATURES)
    torch.testing.assert_close(outputs[:, :1] - outputs, (head.bias[0] - head.bias).expand(6, 3))


@pytest.mark.parametrize("classes", [3, 4, 7])
def test_each_coral_class_can_be_the_pred_at_initialization(classes: int) -> None:
    head = CoralHead(1, classes)
    answers = torch.linspace(-20, 20, 401)[:, None] + head.bias
    assert head.log_probs(answers).argmax(dim=1).unique().tolist() == list(range(classes))


def test_coral_probabilities_are_differences_of_answers() -> None:
    logits = torch.tensor([[2.0, -1.0, -3.0], [30.0, 29.0, 28.5], [-20.0, -21.0, -25.0]], dtype=torch.float64)
    above = 1 / (1 + np.exp(-logits.numpy()))
    want = -np.diff(np.concatenate([np.ones((3, 1)), above, np.zeros((3, 1))], axis=1))
    found = CoralHead(10, 4).log_probs(logits).exp().numpy()
    np.testing.assert_allclose(found, want, atol=1e-6)


def test_coral_with_unordered_logits_has_no_negative_probability() -> None:
    log_probs = CoralHead(10, 3).log_probs(torch.tensor([[-1.0, 1.0]]))
    assert torch.isfinite(log_probs).all()
    assert log_probs.exp()[0, 1] < 1e-3


def test_corn_probabilities_are_products_of_answers() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 4.0, 1.0]])
    p = 1 / (1 + np.exp(-logits.numpy()))
    want = np.stack([1 - p[:, 0], p[:, 0] * (1 - p[:, 1]), p[:, 0] * p[:, 1] * (1 - p[:, 2]), p.prod(axis=1)], axis=1)
    np.testing.assert_allclose(CornHead(10, 4).log_probs(logits).exp().numpy(), want, rtol=1e-5)


def test_every_choice_of_the_settings_has_a_head() -> None:
    name, method = (get_args(HeadSettings.model_fields[field].annotation) for field in ("name", "method"))
    assert set(HEADS) == {*name, *method} - {"ordinal"}


def test_a_wrong_number_of_borders_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 borders between 3 classes"):
        RegressionHead(10, 3, top=60.0, borders=[30.0])
