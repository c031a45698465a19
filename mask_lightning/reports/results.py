"""Photos with what a network said about them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from mask_lightning.data.images import open_photo
from mask_lightning.data.transforms import TransformSpec, eval_pipeline
from mask_lightning.inference.predictions import Predictions
from mask_lightning.labels import UNLABELLED
from mask_lightning.reports.figures import BLUE, RED
from mask_lightning.reports.photos import plot_photos


def plot_results(predictions: Predictions, spec: TransformSpec, *, title: str = "") -> Figure:
    """Every photo as the network sees it under two lines: the truth, and what was predicted; red where a task is wrong.

    What is not labelled is shown as `?` and counts as right.
    """
    prepare = eval_pipeline(spec)
    photos = [np.asarray(prepare(open_photo(path))) for path in predictions.photos["path"]]
    said, captions, wrong = predictions.preds, [], np.zeros(len(predictions), bool)
    for row in range(len(predictions)):
        truth, answer = [], []
        for task in predictions.space.tasks:
            target, pred = predictions.targets[task.name][row], said[task.name][row]
            truth.append("?" if target == UNLABELLED else task.classes[target])
            answer.append(task.classes[pred])
            wrong[row] |= target not in (UNLABELLED, pred)
        captions.append(f"{' '.join(truth)}\n{' '.join(answer)}")
    return plot_photos(photos, captions, colours=[RED if bad else BLUE for bad in wrong], title=title)
