"""Linear probe: fit the heads of a run to the features of its backbones, and score it without a gradient step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.engine.epoch_scores import Scores
from mask_lightning.engine.features import Features, compute_features
from mask_lightning.engine.modules import SIDES, MultiTaskModule
from mask_lightning.engine.trainer import RunTrainer
from mask_lightning.errors import SplitError
from mask_lightning.inference.trained import choose_device
from mask_lightning.labels import UNLABELLED
from mask_lightning.losses.task_losses import validation_loss
from mask_lightning.metrics.scores import MAIN_METRIC
from mask_lightning.optim.logistic_regression import CrossValidation, cross_validate, fit_logistic_regression
from mask_lightning.pipelines.prepare import PreparedRun
from mask_lightning.runs.folder import RunFolder
from mask_lightning.utils.files import write_atomically
from mask_lightning.utils.system import keep_memory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Probe:
    """Fitted heads, and the features that they were fitted to.

    Attributes:
        strengths: task -> chosen strength of the regularisation, scikit-learn's C.
        scores: metrics of the training people, each predicted by a fit that held them out.
        paths: training photos, each once.
        features: their features (N, F) per task.
    """

    strengths: dict[str, float]
    scores: dict[str, float]
    paths: list[str]
    features: Features


def fit_probe(run: PreparedRun, module: MultiTaskModule) -> Probe:
    """Fit all heads by logistic regression on labelled training photos and their mirror images, without augmentation.

    The strength of the regularisation is chosen by cross-validation over people, which also gives a first score, before
    mirror images and held-out people are looked at. `data.balanced_by` and `loss.class_weights` weight the photos, and
    `loss.logit_adjustment` shifts the biases, to what the adjusted loss converges to.

    Source: Alain and Bengio 2017, "Understanding intermediate layers using linear classifier probes",
    arXiv:1610.01644; as the start of fine-tuning Kumar et al. 2022, "Fine-tuning can distort pretrained features and
    underperform out-of-distribution", arXiv:2202.10054.

    Args:
        run: settings, photos, transform and cache.
        module: its heads are changed in place; they have a logit per class.

    Raises:
        SplitError: the training people have one class of a task only, or there is one person only.
    """
    keep_memory()
    settings, space = run.settings, module.space
    rows, drawn = run.photos.targets, run.sample_weights
    _check_classes(rows, module)
    drawn = np.ones(len(rows)) if drawn is None else drawn[: len(rows)]
    unique = rows.drop_duplicates("path")
    weights = np.asarray(pd.Series(drawn).groupby(rows["path"].to_numpy()).sum()[unique["path"]], np.float64)
    loader, device = run.build_data().eval_loader(unique), choose_device(settings.trainer.accelerator)
    look = partial(compute_features, module.network.sharing, loader, run.transform, device)
    features = look(progress=settings.trainer.progress)
    known = {task: (unique[task] != UNLABELLED).to_numpy() for task in space.names}
    targets = {task: unique[task].to_numpy("int64", copy=True) for task in space.names}
    balanced = settings.loss.class_weights == "balanced"
    found = {
        task: cross_validate(
            features[task][of_task],
            targets[task][of_task],
            unique["family"].astype(str)[of_task].tolist(),
            num_classes=space[task].num_classes,
            weights=weights[of_task],
            balanced=balanced,
            seed=settings.seed,
        )
        for task, of_task in known.items()
    }
    shifts = {task: settings.loss.logit_adjustment * _log_frequencies(module, task) for task in space.names}
    scores = _score_held_out(module, found, known, targets, shifts)
    strengths = {task: each.strength for task, each in found.items()}
    log.info(
        "probe: macro F1 %.3f of training people, each held out once; C: %s",
        scores[MAIN_METRIC],
        ", ".join(f"{task} {strength:g}" for task, strength in strengths.items()),
    )
    mirrored = look(mirrored=True, progress=settings.trainer.progress)
    for task, of_task in known.items():
        fitted = fit_logistic_regression(
            np.concatenate([features[task][of_task], mirrored[task][of_task]]),
            np.tile(targets[task][of_task], 2),
            num_classes=space[task].num_classes,
            strength=strengths[task],
            weights=np.tile(weights[of_task] / 2, 2),  # as much as in the cross-validation beside the regularisation
            balanced=balanced,
        )
        linear = module.network.head(task).linear
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(fitted.weight))
            linear.bias.copy_(torch.from_numpy(fitted.bias - shifts[task]))
    return Probe(strengths, scores, unique["path"].tolist(), features)


def score_probe(
    probe: Probe,
    run: PreparedRun,
    trainer: RunTrainer,
    folder: RunFolder,
    module: MultiTaskModule,
    data: FaceDataModule,
) -> None:
    """Score the fitted heads as a validation does, and write best.ckpt and metrics.csv; the probe is epoch 1.

    Args:
        probe: result of `fit_probe`.
        run: settings, photos, transform and cache.
        trainer: trainer of the run, which does not train.
        folder: folder of the run.
        module: module with the fitted heads.
        data: data of the run.
    """
    device = choose_device(run.settings.trainer.accelerator)
    place = {path: i for i, path in enumerate(probe.paths)}
    clean = data.clean_rows["path"].map(place).to_numpy("int64")
    of_side = {"clean_train": {task: values[clean] for task, values in probe.features.items()}}
    if len(data.split.val):
        loader = data.eval_loader(data.split.val)
        progress = run.settings.trainer.progress
        of_side["val"] = compute_features(module.network.sharing, loader, run.transform, device, progress=progress)
    module.cpu().eval()
    rows = {"val": data.split.val, "clean_train": data.clean_rows}
    for side in (side for side in SIDES if side in of_side):
        target = {task: torch.from_numpy(rows[side][task].to_numpy("int64", copy=True)) for task in module.space.names}
        with torch.no_grad():
            outputs = {task: module.network.head(task)(torch.from_numpy(of_side[side][task])) for task in target}
            module.update_scores(side, outputs, target)
    scores = {name: float(value) for name, value in module.compute_scores().items()}
    trainer.trainer.strategy.connect(module)
    trainer.best.compare(trainer.trainer, module, scores)
    write_atomically(folder.metrics, pd.DataFrame([{"epoch": 0, "step": 0, **scores}]).to_csv(index=False).encode())
    if trainer.trainer.logger is not None:
        trainer.trainer.logger.log_hyperparams(dict(module.hparams))
        trainer.trainer.logger.log_metrics(scores, step=0)
        trainer.trainer.logger.finalize("success")


def _check_classes(rows: pd.DataFrame, module: MultiTaskModule) -> None:
    """Raise SplitError for a task with one class, before the features are computed."""
    for task in module.space.tasks:
        found = sorted(set(rows[task.name]) - {UNLABELLED})
        if len(found) < 2:
            names = ", ".join(task.classes[i] for i in found) or "no labels"
            raise SplitError(
                f"finetune.probe needs training people of two classes of {task.name}, found {names} only; leave "
                "the task out (task=NAME), or train on more people"
            )


def _log_frequencies(module: MultiTaskModule, task: str) -> npt.NDArray[np.float32]:
    """Return the log frequency of each class (C,), as drawn; half a photo for a class without photos."""
    counts = np.asarray(module.hparams["class_counts"][task], np.float64)
    frequencies: npt.NDArray[np.float32] = np.log(np.maximum(counts, 0.5) / counts.sum()).astype(np.float32)
    return frequencies


def _score_held_out(
    module: MultiTaskModule,
    found: Mapping[str, CrossValidation],
    known: Mapping[str, npt.NDArray[np.bool_]],
    targets: Mapping[str, npt.NDArray[np.int64]],
    shifts: Mapping[str, npt.NDArray[np.float32]],
) -> dict[str, float]:
    """Return the metrics of the training people from the predictions of the cross-validation."""
    log_probs, losses, target = {}, {}, {}
    for task, each in found.items():
        logits = np.zeros((len(known[task]), each.log_probs.shape[1]), np.float32)
        logits[known[task]] = each.log_probs - shifts[task]
        log_probs[task], target[task] = torch.from_numpy(logits).log_softmax(dim=1), torch.from_numpy(targets[task])
        losses[task] = validation_loss(log_probs[task], target[task])
    scores = Scores(module.space, task_weights=module.task_weights, tops={})
    scores.update(log_probs, target, losses)
    return {name: float(value) for name, value in scores.compute().items()}
