"""Calibration against hand computation, and fits of known temperatures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from mask_lightning.labels import UNLABELLED
from mask_lightning.metrics.calibration import (
    calibrate,
    correct,
    cross_fit,
    fit_correction,
    fit_temperature,
    measure,
    scale,
    to_log,
)


def sample(temperature: float, people: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities that are overconfident by `temperature`, and targets drawn from calibrated probabilities."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (people, 3))
    targets = np.array([rng.choice(3, p=p) for p in softmax(honest, axis=1)])
    return log_softmax(honest * temperature, axis=1), targets


def test_ece_by_hand() -> None:
    """Four answers in bins (0.6, 0.8] and (0.8, 1] of five: |1/2 - 0.75| x 2/4 + |2/2 - 0.9| x 2/4."""
    probs = [[0.7, 0.3], [0.2, 0.8], [0.85, 0.15], [0.05, 0.95]]
    got = measure(probs, np.array([0, 0, 0, 1]), bins=5)
    assert got.ece == pytest.approx(0.25 / 2 + 0.1 / 2)
    assert got.photos.tolist() == [0, 0, 0, 2, 2]
    np.testing.assert_allclose(got.confidence, [np.nan] * 3 + [0.75, 0.9])
    np.testing.assert_allclose(got.accuracy, [np.nan] * 3 + [0.5, 1.0])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found_and_calibrates(temperature: float) -> None:
    log_probs, targets = sample(temperature, people=4000)
    assert fit_temperature(log_probs, targets) == pytest.approx(temperature, rel=0.08)
    mended = measure(np.exp(scale(log_probs, temperature)), targets).ece
    assert mended < 0.03
    if temperature != 1:
        assert measure(np.exp(log_probs), targets).ece > 2 * mended


def test_the_fit_has_the_smallest_cross_entropy() -> None:
    log_probs, targets = sample(2.0)

    def loss(temperature: float) -> float:
        return -log_softmax(log_probs / temperature, axis=1)[np.arange(400), targets].mean()

    best = min(np.linspace(0.5, 5, 901), key=loss)
    assert fit_temperature(log_probs, targets) == pytest.approx(best, abs=0.01)


@pytest.mark.parametrize("target", [0, 1])
def test_all_right_or_all_wrong_gives_temperature_1(target: int) -> None:
    assert fit_temperature(np.log([[0.9, 0.1], [0.6, 0.4]]), np.full(2, target)) == 1.0


def test_cross_fitting_scales_each_half_with_the_other() -> None:
    """With two people, each half is one person."""
    log_probs, targets = sample(1.0, people=40)
    people = np.repeat(["a", "b"], 20)
    got = cross_fit(log_probs, targets, people)
    for mine, other in ((people == "a", people == "b"), (people == "b", people == "a")):
        temperature = fit_temperature(log_probs[other], targets[other])
        np.testing.assert_allclose(got[mine], scale(log_probs[mine], temperature))
    assert cross_fit(log_probs, targets, np.full(40, "a")) is None


def test_temperatures_do_not_change_preds(make_labelled) -> None:
    log_probs, targets = sample(3.0)
    targets[:5] = UNLABELLED
    people = [str(i // 4) for i in range(400)]
    predictions = make_labelled(people, {"age": targets}, probs={"age": np.exp(log_probs)})
    got = calibrate(predictions)["age"]
    assert not got.given
    assert got.before.photos.sum() == got.after.photos.sum() == 395
    assert got.after.ece < got.before.ece / 2
    known = to_log(predictions.probs["age"][5:])
    assert (scale(known, got.temperature).argmax(axis=1) == known.argmax(axis=1)).all()


def test_given_temperatures_are_applied(make_labelled) -> None:
    log_probs, targets = sample(3.0)
    predictions = make_labelled(["p"] * 400, {"age": targets}, probs={"age": np.exp(log_probs)})
    got = calibrate(predictions, {"age": 3.0})["age"]
    assert (got.temperature, got.given) == (3.0, True)
    assert got.after.ece == pytest.approx(measure(softmax(log_probs / 3, axis=1), targets).ece, abs=1e-5)
    untouched = calibrate(predictions, {"mask": 2.0})["age"]
    assert untouched.after.ece == pytest.approx(untouched.before.ece)


def test_probabilities_that_underflow_have_finite_logs() -> None:
    assert np.isfinite(to_log(np.array([[0.0, 1.0]], np.float32))).all()


def test_a_bias_undoes_the_balance_of_training() -> None:
    """A network with logit adjustment outputs p(class | photo) / p(class): the bias is the log prior."""
    rng, prior = np.random.default_rng(0), np.array([0.7, 0.25, 0.05])
    labels = rng.choice(3, 6000, p=prior)
    means = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])
    photos = means[labels] + rng.normal(size=(6000, 2))
    likelihood = -((photos[:, None] - means) ** 2).sum(axis=2) / 2
    found = fit_correction(log_softmax(likelihood / 0.5, axis=1), labels)  # also twice too sure
    assert found.temperature == pytest.approx(2.0, rel=0.1)
    want = np.log(prior) - np.log(prior).mean()
    np.testing.assert_allclose(found.bias, want, atol=0.12)
    corrected = np.exp(correct(log_softmax(likelihood / 0.5, axis=1), found))
    np.testing.assert_allclose(corrected.mean(axis=0), np.bincount(labels) / 6000, atol=0.002)


@pytest.mark.parametrize("labels", [[0, 0, 0, 1], [0, 1, 0, 1], [1, 0, 1, 0]])
def test_a_correction_is_finite_without_photos_of_a_class_or_without_mistakes(labels: list[int]) -> None:
    log_probs = np.log([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]] * 2)
    found = fit_correction(log_probs, np.array(labels))
    assert 0.05 <= found.temperature <= 20
    assert max(map(abs, found.bias)) < 5
