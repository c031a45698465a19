"""Scores of an epoch, compared with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from mask_lightning.engine.epoch_scores import Scores, WeightedMean, joint_target, number_errors
from mask_lightning.labels import FACE, UNLABELLED, LabelSpace, Task
from mask_lightning.losses.task_losses import validation_loss
from mask_lightning.metrics.bootstrap import intervals
from mask_lightning.metrics.scores import JOINT, MAX_JOINT, accuracy, f1_per_class, headline, macro_f1, why_mean


def drawn(classes: int, absent: tuple[int, ...] = (), *, photos: int = 200, seed: int = 0) -> np.ndarray:
    """Truth and preds (2, N) in which the classes `absent` never occur."""
    rng = np.random.default_rng(seed)
    present = [i for i in range(classes) if i not in absent]
    truth = rng.choice(present, photos)
    return np.stack([truth, np.where(rng.random(photos) < 0.6, truth, rng.choice(present, photos))])


@pytest.mark.parametrize(
    ("truth", "preds", "classes"),
    [
        (*drawn(3), 3),
        (*drawn(18), 18),
        (*drawn(18, absent=(2, 5, 17)), 18),  # on neither side: they count as 0 all the same
        (*drawn(18, absent=(5,), photos=9), 18),
        (np.array([0, 0, 1]), np.array([1, 1, 0]), 3),  # never right
        (np.array([0, 1, 2]), np.array([0, 1, 2]), 3),
        (np.array([0, 0]), np.array([0, 0]), 2),
        (np.array([2, 2, 2]), np.array([0, 1, 2]), 3),  # only predicted, or only true
    ],
)
def test_scores_equal_scikit_learn_over_all_classes(truth: np.ndarray, preds: np.ndarray, classes: int) -> None:
    labels = list(range(classes))
    confusion = torch.from_numpy(confusion_matrix(truth, preds, labels=labels))
    options = {"labels": labels, "zero_division": 0}
    assert macro_f1(confusion).item() == pytest.approx(f1_score(truth, preds, average="macro", **options))
    np.testing.assert_allclose(
        f1_per_class(confusion).numpy(), f1_score(truth, preds, average=None, **options), rtol=1e-6
    )
    assert accuracy(confusion).item() == pytest.approx(accuracy_score(truth, preds))


def test_empty_confusion_matrices_score_zero() -> None:
    empty = torch.zeros(3, 3, dtype=torch.long)
    assert macro_f1(empty).item() == accuracy(empty).item() == 0.0


BATCHES = (40, 40, 7)  # the last one smaller, as in an epoch


@pytest.fixture(scope="module")
def epoch() -> list[tuple[dict, dict, dict]]:
    """Batches of logits, targets and losses per task."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for size in BATCHES:
        logits = {task.name: torch.randn(size, task.num_classes, generator=generator) for task in FACE.tasks}
        target = {task.name: torch.randint(task.num_classes, (size,), generator=generator) for task in FACE.tasks}
        losses = dict(zip(FACE.names, torch.rand(3, generator=generator), strict=True))
        batches.append((logits, target, losses))
    return batches


@pytest.fixture
def scores(epoch) -> Scores:
    scores = Scores(FACE)
    for batch in epoch:
        scores.update(*batch)
    return scores


def whole(epoch, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Truth and preds of all batches."""
    truth = np.concatenate([target[task].numpy() for _, target, _ in epoch])
    return truth, np.concatenate([logits[task].numpy().argmax(1) for logits, _, _ in epoch])


def joint(epoch) -> tuple[np.ndarray, np.ndarray]:
    sides = [whole(epoch, task) for task in ("mask", "gender", "age")]
    mask, gender, age = sides
    return mask[0] * 6 + gender[0] * 3 + age[0], mask[1] * 6 + gender[1] * 3 + age[1]


def test_batches_of_an_epoch_are_scored_together(scores: Scores, epoch) -> None:
    found = {name: float(value) for name, value in scores.compute().items()}
    want = {}
    for prefix, (truth, preds), classes in (
        ("", joint(epoch), 18),
        *((f"{task.name}/", whole(epoch, task.name), task.num_classes) for task in FACE.tasks),
    ):
        labels = list(range(classes))
        want[f"{prefix}f1"] = f1_score(truth, preds, labels=labels, average="macro", zero_division=0)
        want[f"{prefix}accuracy"] = accuracy_score(truth, preds)
    sizes = np.array(BATCHES)
    totals = [sum(map(float, losses.values())) for *_, losses in epoch]
    want["loss"] = np.average(totals, weights=sizes)
    for task in FACE.names:
        values = [float(losses[task]) for _, _, losses in epoch]
        want[f"{task}/loss"] = np.average(values, weights=sizes)
    assert found == pytest.approx(want)


def test_confusion_matrices_have_the_truth_in_rows(scores: Scores, epoch) -> None:
    matrices = scores.confusion_matrices()
    assert list(matrices) == ["mask", "gender", "age", JOINT]
    for task in FACE.tasks:
        want = confusion_matrix(*whole(epoch, task.name), labels=range(task.num_classes))
        np.testing.assert_array_equal(matrices[task.name].numpy(), want)
    np.testing.assert_array_equal(matrices[JOINT].numpy(), confusion_matrix(*joint(epoch), labels=range(18)))


def test_the_combined_class_of_one_task_is_the_task(epoch) -> None:
    scores = Scores(FACE.only(["age"]))
    logits, target, losses = epoch[0]
    scores.update({"age": logits["age"]}, target, {"age": losses["age"]})
    found = scores.compute()
    assert set(found) == {"loss", "f1", "accuracy", "age/loss", "age/f1", "age/accuracy"}
    assert found["f1"] == found["age/f1"]


def test_reset_discards_everything(scores: Scores, epoch) -> None:
    scores.reset()
    scores.update(*epoch[2])
    logits, target, losses = epoch[2]
    assert all(matrix.sum() == len(target["age"]) for matrix in scores.confusion_matrices().values())
    assert scores.compute()["loss"].item() == pytest.approx(sum(map(float, losses.values())))
    assert scores.compute()["age/accuracy"] == pytest.approx(accuracy_score(target["age"], logits["age"].argmax(1)))


def half_labelled(epoch) -> list[tuple[dict, dict, dict]]:
    """The epoch with about a third of each task's labels taken away; the last batch has none for age."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for i, (logits, target, losses) in enumerate(epoch):
        keep = {task: torch.rand(len(values), generator=generator) > 0.35 for task, values in target.items()}
        if i == len(epoch) - 1:
            keep["age"][:] = False
        masked = {task: torch.where(keep[task], values, UNLABELLED) for task, values in target.items()}
        batches.append((logits, masked, losses))
    return batches


def test_a_photo_counts_for_the_tasks_it_is_labelled_for(epoch) -> None:
    """Against scikit-learn over the labelled rows; the combined class over rows that have all labels."""
    batches, scores = half_labelled(epoch), Scores(FACE)
    for batch in batches:
        scores.update(*batch)
    matrices, found = scores.confusion_matrices(), scores.compute()
    everywhere = np.ones(sum(BATCHES), dtype=bool)
    for task in FACE.tasks:
        truth, preds = whole(batches, task.name)
        labelled = truth != UNLABELLED
        everywhere &= labelled
        want = confusion_matrix(truth[labelled], preds[labelled], labels=range(task.num_classes))
        np.testing.assert_array_equal(matrices[task.name].numpy(), want)
        weights = [int((target[task.name] != UNLABELLED).sum()) for _, target, _ in batches]
        losses = [float(losses[task.name]) for _, _, losses in batches]
        assert found[f"{task.name}/loss"].item() == pytest.approx(np.average(losses, weights=weights))
    truth, preds = (codes[everywhere] for codes in joint(batches))
    np.testing.assert_array_equal(matrices[JOINT].numpy(), confusion_matrix(truth, preds, labels=range(18)))
    assert 0 < everywhere.sum() < len(everywhere)


def test_the_code_of_a_photo_needs_all_labels() -> None:
    target = {"mask": torch.tensor([2, -1, 2]), "gender": torch.tensor([1, 1, 1]), "age": torch.tensor([2, 0, -1])}
    assert joint_target(FACE, target).tolist() == [17, UNLABELLED, UNLABELLED]


def test_a_side_without_labels_scores_nothing() -> None:
    scores = Scores(FACE.only(["age"]))
    scores.update({"age": torch.randn(4, 3)}, {"age": torch.full((4,), UNLABELLED)}, {"age": torch.tensor(0.0)})
    assert scores.compute()["f1"] == scores.compute()["accuracy"] == 0.0


def test_too_many_combined_classes_are_scored_by_the_mean_of_the_tasks() -> None:
    space = LabelSpace(tuple(Task(f"t{i}", ("a", "b")) for i in range(40)))
    assert space.num_codes == 2**40 > MAX_JOINT
    generator, scores = torch.Generator().manual_seed(0), Scores(space)
    logits = {name: torch.randn(50, 2, generator=generator) for name in space.names}
    target = {name: torch.randint(2, (50,), generator=generator) for name in space.names}
    zero = torch.tensor(0.0)
    scores.update(logits, target, dict.fromkeys(space.names, zero))
    assert JOINT not in scores.confusion_matrices()
    found = scores.compute()
    each = [f1_score(target[n], logits[n].argmax(1), average="macro") for n in space.names]
    assert found["f1"].item() == pytest.approx(np.mean(each), rel=1e-5)
    assert found["accuracy"].item() == pytest.approx(np.mean([float(found[f"{n}/accuracy"]) for n in space.names]))


def split_labels(kind: str) -> dict[str, torch.Tensor]:
    """Targets of 60 photos, cut to partial labels as `kind` says; every class of every task has labels."""
    generator = torch.Generator().manual_seed(3)
    target = {task.name: torch.randint(task.num_classes, (60,), generator=generator) for task in FACE.tasks}
    odd = torch.arange(60) % 2 == 1
    known = {
        "all": {},
        "complementary": {"mask": odd, "gender": ~odd, "age": ~odd},
        "few": {"age": torch.arange(60) < 20},
        "half": {"age": torch.arange(60) < 30},
        "no joint class": {"age": target["mask"] != 1},
    }[kind]
    return {task: torch.where(known.get(task, odd | True), values, UNLABELLED) for task, values in target.items()}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("all", None),
        ("half", None),
        ("complementary", "0 of 30 photos with a label of mask are labelled for all tasks"),
        ("few", "20 of 60 photos with a label of mask are labelled for all tasks"),
        ("no joint class", "no photo of mask incorrect is labelled for all tasks"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_few_photos_with_all_labels_are_scored_by_the_mean_of_the_tasks(
    kind: str, reason: str | None, seed: int, make_labelled
) -> None:
    """Against scikit-learn; the choice does not depend on the preds, and equals that of stored predictions."""
    generator, target = torch.Generator().manual_seed(seed), split_labels(kind)
    log_probs = {task.name: torch.randn(60, task.num_classes, generator=generator) for task in FACE.tasks}
    scores = Scores(FACE)
    for part in (slice(0, 25), slice(25, 60)):
        batch = [{task: values[part] for task, values in each.items()} for each in (log_probs, target)]
        scores.update(*batch, dict.fromkeys(FACE.names, torch.tensor(0.0)))  # type: ignore[call-arg]
    truth = {task: values.numpy() for task, values in target.items()}
    preds = {task: values.argmax(1).numpy() for task, values in log_probs.items()}
    sides = [(truth[task.name], preds[task.name], task.num_classes) for task in FACE.tasks]
    if reason is None:
        known = np.all([truth[task] >= 0 for task in FACE.names], axis=0)
        codes = [values["mask"] * 6 + values["gender"] * 3 + values["age"] for values in (truth, preds)]
        sides = [(np.where(known, codes[0], UNLABELLED), codes[1], 18)]
    want = [
        f1_score(true[true >= 0], pred[true >= 0], labels=range(count), average="macro", zero_division=0)
        for true, pred, count in sides
    ]
    assert scores.why_mean == reason
    assert scores.compute()["f1"].item() == pytest.approx(np.mean(want), rel=1e-5)
    predictions = make_labelled(["p"] * 60, truth, probs={t: v.softmax(1).numpy() for t, v in log_probs.items()})
    assert why_mean(predictions) == reason
    found = intervals(predictions, draws=3)
    assert found[headline(found)]["f1"].value == pytest.approx(np.mean(want), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 60])
def test_the_loss_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    """Weighted sum of the mean cross-entropies of the labelled photos, by NumPy."""
    generator, target = torch.Generator().manual_seed(0), split_labels("few")
    log_probs = {
        task.name: torch.randn(60, task.num_classes, generator=generator).log_softmax(1) for task in FACE.tasks
    }
    weights, scores = {"mask": 2.0, "age": 0.5}, Scores(FACE, task_weights={"mask": 2.0, "age": 0.5})
    for start in range(0, 60, batch_size):
        batch, part = [
            {task: values[start : start + batch_size] for task, values in each.items()} for each in (log_probs, target)
        ]
        scores.update(batch, part, {task: validation_loss(batch[task], part[task]) for task in FACE.names})
    want = 0.0
    for task in FACE.names:
        truth = target[task].numpy()
        want -= weights.get(task, 1.0) * log_probs[task].numpy()[truth >= 0, truth[truth >= 0]].mean()
    assert scores.compute()["loss"].item() == pytest.approx(want, rel=1e-5)


def test_a_task_without_labels_adds_nothing_to_the_loss() -> None:
    scores, target = Scores(FACE), {task.name: torch.zeros(4, dtype=torch.long) for task in FACE.tasks}
    target["age"][:] = UNLABELLED
    losses = {"mask": torch.tensor(1.0), "gender": torch.tensor(2.0), "age": torch.tensor(0.0)}
    scores.update({task.name: torch.zeros(4, task.num_classes) for task in FACE.tasks}, target, losses)
    assert scores.compute()["loss"].item() == 3.0


YEARS = torch.tensor([20.0, 25.0, 41.0, 75.0, float("nan"), 60.0])
SAID = torch.tensor([30.0, 21.0, 40.0, 44.0, 12.0, 60.0])
BANDS = torch.tensor([0, 0, 1, 2, 1, 2])


def test_numbers_are_scored_by_their_errors_per_true_class() -> None:
    """Calculated by hand: numbers above the top count as the top, unknown numbers do not count."""
    scores = Scores(FACE, tops={"age": 60.0})
    logits = {task.name: torch.zeros(6, task.num_classes) for task in FACE.tasks}
    target = {task: torch.zeros(6, dtype=torch.long) for task in FACE.names}
    zero = torch.tensor(0.0)
    for part in (slice(0, 4), slice(4, 6)):
        batch = [{task: values[part] for task, values in each.items()} for each in (logits, target)]
        scores.update(*batch, dict.fromkeys(FACE.names, zero))  # type: ignore[call-arg]
        scores.update_numbers("age", BANDS[part], YEARS[part], SAID[part])
    found = {name: value.item() for name, value in scores.compute().items() if "mae" in name or "bias" in name}
    want = {"age/mae": (10 + 4 + 1 + 16 + 0) / 5, "age/bias/<30": 3.0, "age/bias/30-59": -1.0, "age/bias/>=60": -8.0}
    assert found == pytest.approx(want)
    kept = scores.numbers_of("age")
    np.testing.assert_array_equal(kept[:, 1], YEARS[~YEARS.isnan()])
    scores.reset()
    assert scores.numbers_of("age").shape == (0, 3)


def test_classes_without_numbers_have_no_bias() -> None:
    assert number_errors(torch.zeros(0, 3), FACE["age"], top=60.0) == {}
    alone = number_errors(torch.tensor([[1.0, 40.0, 42.0]]), FACE["age"], top=60.0)
    assert {name: float(value) for name, value in alone.items()} == {"mae": 2.0, "bias/30-59": 2.0}


@pytest.mark.gpu
def test_scores_stay_on_the_device(epoch) -> None:
    scores = Scores(FACE).cuda()
    logits, target, losses = epoch[0]
    moved = [{task: value.cuda() for task, value in part.items()} for part in (logits, target, losses)]
    scores.update(*moved)  # type: ignore[call-arg]
    alone = Scores(FACE)
    alone.update(*epoch[0])
    for name, value in scores.compute().items():
        assert value.device.type == "cuda"
        assert value.item() == pytest.approx(alone.compute()[name].item())


def test_the_mean_is_weighted_by_counts() -> None:
    values, counts = [0.5, 2.0, 4.0], [3, 0, 1]
    mean = WeightedMean()
    for value, count in zip(values, counts, strict=True):
        mean.update(torch.tensor(value), torch.tensor(count))
    assert mean.compute().item() == pytest.approx(np.average(values, weights=counts))
