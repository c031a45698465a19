from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mask_lightning.errors import SplitError
from mask_lightning.optim.logistic_regression import STRENGTHS, cross_validate, fit_logistic_regression


def draw(classes: int, people: int = 12, shots: int = 3) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(people) % classes, shots).astype(np.int64)
    features = rng.normal(3, 2, (len(targets), 5)) + rng.normal(0, 1, (classes, 5))[targets]
    return features.astype(np.float32), targets, [f"p{i // shots}" for i in range(len(targets))]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("balanced", [False, True])
def test_a_fit_is_scikit_learns_on_standardised_features(classes: int, *, balanced: bool) -> None:
    features, targets, _ = draw(classes)
    weights = np.linspace(0.5, 1.5, len(targets))
    kind = "balanced" if balanced else None
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-6, class_weight=kind))
    reference.fit(features, targets, logisticregression__sample_weight=weights)
    fitted = fit_logistic_regression(
        features, targets, num_classes=classes, strength=0.1, weights=weights, balanced=balanced
    )
    logits = features @ fitted.weight.T + fitted.bias
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probs, reference.predict_proba(features), atol=3e-3)


def test_a_class_without_photos_is_never_predicted_and_a_feature_may_be_constant() -> None:
    features, targets, _ = draw(2)
    features[:, 1] = 7
    fitted = fit_logistic_regression(features, 2 * targets, num_classes=4, strength=0.1)
    logits = features @ fitted.weight.T + fitted.bias
    assert np.isfinite(logits).all()
    assert set(logits.argmax(axis=1)) == {0, 2}
    assert not fitted.weight[[1, 3]].any()


def test_people_are_held_out_together_and_noise_is_regularised() -> None:
    """Each person has a feature of its own: the label is known from other photos of the person, not of others."""
    targets = np.repeat(np.arange(10) % 2, 4).astype(np.int64)
    people = [f"p{i // 4}" for i in range(40)]
    features = np.repeat(np.eye(10, dtype=np.float32), 4, axis=0)
    found = cross_validate(features, targets, people, num_classes=2)
    assert found.strength == STRENGTHS[0]
    assert found.loss > 0.68, "about log 2"
    features[:, 0] += 3 * targets
    assert cross_validate(features, targets, people, num_classes=2).strength > STRENGTHS[0]


def test_a_fold_may_lack_a_class() -> None:
    features, targets, people = draw(2, people=4)
    rare = np.where(np.array(people) == "p0", 2, targets)  # nobody else has class 2
    found = cross_validate(features, rare, people, num_classes=3)
    assert found.log_probs.shape == (12, 3)
    assert np.isfinite(found.loss)
    two = cross_validate(features[:6], targets[:6], people[:6], num_classes=2)
    assert np.isfinite(two.loss), "each fold trains on one class only"


def test_one_person_is_refused() -> None:
    features, targets, _ = draw(2)
    with pytest.raises(SplitError, match="needs two training people, found one"):
        cross_validate(features, targets, ["a"] * len(targets), num_classes=2)
