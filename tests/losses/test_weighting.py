"""Task weightings against the papers' equations in NumPy."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from mask_lightning.errors import ConfigError
from mask_lightning.losses.weighting import DynamicWeighting, UncertaintyWeighting, make_weighting
from mask_lightning.settings.base import check
from mask_lightning.settings.loss import WeightingSettings

TASKS = ("mask", "gender", "age")


def as_losses(values) -> dict[str, torch.Tensor]:
    return {task: torch.tensor(float(value)) for task, value in zip(TASKS, values, strict=True)}


@pytest.mark.parametrize(
    ("weights", "want"), [({}, 0.5 + 1.5 + 2.0), ({"age": 3.0, "mask": 0.0, "smile": 9.0}, 1.5 + 6.0)]
)
def test_fixed_weights_are_the_ones_given(weights: dict[str, float], want: float) -> None:
    weighting = make_weighting(TASKS, weights)
    assert weighting(as_losses([0.5, 1.5, 2.0])).item() == pytest.approx(want)
    assert not weighting.is_adaptive
    assert not weighting.state_dict()


@pytest.mark.parametrize("sigmas", [(1.0, 1.0, 1.0), (0.5, 1.0, 2.0)])
def test_uncertainty_follows_the_paper(sigmas: tuple[float, ...]) -> None:
    """Kendall et al. 2018, equation 10 for classes: sum of L / sigma^2 + log sigma, with its gradient by hand."""
    weighting, losses = UncertaintyWeighting(TASKS), np.array([0.5, 1.5, 2.0])
    with torch.no_grad():
        weighting.log_variances.copy_(torch.tensor(sigmas).square().log())
    total = weighting(as_losses(losses))
    total.backward()
    sigma = np.array(sigmas)
    assert total.item() == pytest.approx((losses / sigma**2 + np.log(sigma)).sum(), rel=1e-6)
    # by s = log sigma^2: d/ds (L exp(-s) + s / 2)
    np.testing.assert_allclose(weighting.log_variances.grad, -losses / sigma**2 + 0.5, rtol=1e-6)
    assert {task: weight.item() for task, weight in weighting.weights().items()} == pytest.approx(
        dict(zip(TASKS, sigma**-2, strict=True))
    )


def test_uncertainty_converges_to_one_over_twice_the_loss() -> None:
    """The minimum over sigma of L / sigma^2 + log sigma is at sigma^2 = 2 L."""
    weighting, losses = UncertaintyWeighting(TASKS), as_losses([0.1, 0.5, 2.0])
    optimizer = torch.optim.Adam(weighting.parameters(), 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        weighting(losses).backward()
        optimizer.step()
    settled = {task: weight.item() for task, weight in weighting.weights().items()}
    assert settled == pytest.approx({task: 1 / (2 * loss.item()) for task, loss in losses.items()}, rel=1e-2)


EPOCHS = np.array([[1.0, 0.8, 1.2], [0.5, 0.7, 1.1], [0.4, 0.3, 1.1], [0.4, 0.2, 0.9]])  # mean losses per epoch


def dwa(epoch: int, temperature: float) -> np.ndarray:
    """Liu et al. 2019, equation 7, for epochs from 0."""
    if epoch < 2:
        return np.ones(3)
    ratios = np.exp(EPOCHS[epoch - 1] / EPOCHS[epoch - 2] / temperature)
    return 3 * ratios / ratios.sum()


@pytest.mark.parametrize("temperature", [2.0, 0.5])
def test_dynamic_weights_follow_the_paper_across_a_resume(temperature: float) -> None:
    weighting = DynamicWeighting(TASKS, temperature=temperature)
    for epoch, means in enumerate(EPOCHS):
        weighting.start_epoch(lambda means: means)
        want = dwa(epoch, temperature)
        for scale in (0.5, 1.5):  # two batches with that mean
            resumed = DynamicWeighting(TASKS, temperature=temperature)
            resumed.load_state_dict(weighting.state_dict())
            for name, value in resumed.running_sums().items():
                value.copy_(weighting.running_sums()[name])
            weighting = resumed
            total = weighting(as_losses(scale * means))
            assert total.item() == pytest.approx((want * scale * means).sum(), rel=1e-5)
        np.testing.assert_allclose([weight.item() for weight in weighting.weights().values()], want, rtol=1e-5)


def test_a_task_without_loss_makes_all_weights_one() -> None:
    weighting = DynamicWeighting(TASKS)
    for _ in range(3):
        weighting.start_epoch(lambda means: means)
        weighting(as_losses([1.0, 0.0, 2.0]))
    assert [weight.item() for weight in weighting.weights().values()] == [1.0, 1.0, 1.0]


def test_processes_average_their_losses() -> None:
    weighting = DynamicWeighting(TASKS)
    # Loss sums and batch counts of another process, before each of three epochs.
    others = iter([np.zeros(3), np.zeros(3), EPOCHS[0] / 3, np.ones(3), EPOCHS[1] * 2, np.ones(3)])
    for means in (*EPOCHS[:2], EPOCHS[2]):
        weighting.start_epoch(lambda own: (own + torch.tensor(next(others), dtype=torch.float32)) / 2)
        weighting(as_losses(means))
    ratios = np.exp((EPOCHS[1] * 3 / 2) / (EPOCHS[0] * 2 / 3) / 2)
    want = 3 * ratios / ratios.sum()
    np.testing.assert_allclose([weight.item() for weight in weighting.weights().values()], want, rtol=1e-5)


def flags(*values: bool) -> dict[str, torch.Tensor]:
    return {task: torch.tensor(value) for task, value in zip(TASKS, values, strict=True)}


PARTIAL = [  # losses and labels of three batches; every task has a mean loss of 2 over the batches with its labels
    ([2.0, 0.0, 1.0], (True, False, True)),
    ([2.0, 2.0, 0.0], (True, True, False)),
    ([2.0, 0.0, 3.0], (True, False, True)),
]


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_uncertainty_leaves_out_tasks_without_labels_in_the_batch(sigma: float) -> None:
    """Neither loss nor log sigma of such a task, and no gradient of its weight."""
    for losses, labelled in PARTIAL:
        weighting = UncertaintyWeighting(TASKS)
        with torch.no_grad():
            weighting.log_variances.fill_(2 * np.log(sigma))
        total = weighting(as_losses(losses), flags(*labelled))
        total.backward()
        assert total.item() == pytest.approx(sum(losses) / sigma**2 + sum(labelled) * np.log(sigma), rel=1e-5)
        want = [0.5 - loss / sigma**2 if known else 0.0 for loss, known in zip(losses, labelled, strict=True)]
        np.testing.assert_allclose(weighting.log_variances.grad, want, rtol=1e-5, atol=1e-7)


def test_uncertainty_gives_equal_losses_equal_weights_however_rare_the_labels_are() -> None:
    """The minimum is at 1 / (2 L) = 1/4 for each task; with log sigma in every batch it was 1/4, 3/4 and 3/8."""
    weighting = UncertaintyWeighting(TASKS)
    optimizer = torch.optim.SGD(weighting.parameters(), 0.3)
    for _ in range(200):
        optimizer.zero_grad()
        for losses, labelled in PARTIAL:
            (weighting(as_losses(losses), flags(*labelled)) / len(PARTIAL)).backward()
        optimizer.step()
    assert [weight.item() for weight in weighting.weights().values()] == pytest.approx([0.25] * 3, rel=1e-3)


def test_dynamic_weights_average_over_the_batches_with_labels() -> None:
    """Mean losses of 2, 2, 2 in the first epoch and half of that in the second: equal ratios, equal weights."""
    weighting = DynamicWeighting(TASKS)
    for scale, epoch in ((1.0, PARTIAL), (0.5, PARTIAL[:2] + PARTIAL[:1] + PARTIAL[2:])):
        weighting.start_epoch(lambda own: own)
        for losses, labelled in epoch:
            weighting(as_losses([scale * loss for loss in losses]), flags(*labelled))
    weighting.start_epoch(lambda own: own)
    np.testing.assert_allclose(weighting.earlier[1], [2.0, 2.0, 2.0])
    np.testing.assert_allclose(weighting.earlier[0], [1.0, 1.0, 0.5 * 5 / 3], rtol=1e-6)
    ratios = np.exp(np.array([0.5, 0.5, 0.5 * 5 / 6]) / 2)
    want = 3 * ratios / ratios.sum()
    np.testing.assert_allclose([weight.item() for weight in weighting.weights().values()], want, rtol=1e-5)


def test_a_task_without_labels_in_a_whole_epoch_keeps_its_mean() -> None:
    weighting = DynamicWeighting(TASKS)
    for losses, labelled in (([2.0, 3.0, 4.0], (True, True, True)), ([1.0, 0.0, 2.0], (True, False, True))):
        weighting.start_epoch(lambda own: own)
        weighting(as_losses(losses), flags(*labelled))
    weighting.start_epoch(lambda own: own)
    assert weighting.earlier.tolist() == [[1.0, 3.0, 2.0], [2.0, 3.0, 4.0]]


@pytest.mark.parametrize("name", get_args(WeightingSettings.model_fields["name"].annotation))
def test_every_choice_of_the_settings_can_be_built(name: str) -> None:
    options = {"temperature": 0.5} if name == "dwa" else {}
    weighting = make_weighting(TASKS, {}, WeightingSettings(name=name, **options))
    assert weighting(as_losses([0.5, 1.5, 2.0])).item() == pytest.approx(4.0)
    assert getattr(weighting, "temperature", 0.5) == 0.5


def test_an_unknown_weighting_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match="name must be 'fixed', 'uncertainty' or 'dwa', got 'dva'"):
        check(WeightingSettings, {"name": "dva"})
