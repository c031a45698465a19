"""The contestants of bench_time_to_score.py: each trains to its end in turns of a few steps, judged along the way.

    python tests/benchmarks/scoring_loops.py KIND FOLDER POINTS [OVERRIDE ...]

KIND is a function of this file, FOLDER is for what it writes, POINTS is how often it is judged, and the overrides are
those of a training, of which fastai takes photos, split, backbone and weights.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.utils.data import DataLoader
from training_loops import TimmHeads, summed_loss
from turns import pause

from mask_lightning.cli.compose import compose
from mask_lightning.data.batching import normalise
from mask_lightning.data.cache import PhotoCache
from mask_lightning.data.dataset import FaceDataset, collate
from mask_lightning.data.transforms import TransformSpec, eval_pipeline
from mask_lightning.engine import trainer as trainers
from mask_lightning.models.weights import load_pretrained
from mask_lightning.pipelines.photos import Photos, find_photos
from mask_lightning.pipelines.prepare import PreparedRun, choose_transform, open_cache
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings

STEPS_PER_TURN = 10
JUDGED_AT_ONCE = 64
RATES = slice(5e-4, 2e-3)  # of the layers nearest to the photo, and of the heads: fastai's best recipe that was found
EPOCHS = 3


class Judge:
    """Macro F1 of the combined classes on all photos that are held out, at evenly spaced steps, the last among them.

    A turn of training ends before it judges, so that what the judging takes can be told apart.
    """

    def __init__(self, photos: Photos, spec: TransformSpec, cache: PhotoCache | None, points: int) -> None:
        self.space, rows = photos.space, photos.split.val
        dataset = FaceDataset(rows, self.space.names, eval_pipeline(spec), cache=cache)
        self.batches = DataLoader(dataset, JUDGED_AT_ONCE, collate_fn=collate)
        self.truth = self.space.encode({task: rows[task].to_numpy() for task in self.space.names})
        self.spec, self.points, self.step = spec, points, 0
        self.when: set[int] = set()

    def plan(self, steps: int) -> None:
        """How many steps the training will have."""
        self.when = {round(steps * (i + 1) / self.points) for i in range(self.points)}

    def after_step(self, network: nn.Module) -> None:
        """End the turn where it is time to, and tell the score where it is time for that."""
        self.step += 1
        judges = self.step in self.when
        if judges or self.step % STEPS_PER_TURN == 0:
            pause()
        if judges:
            pause(f1=self.score(network), is_last=self.step == max(self.when))

    @torch.no_grad()
    def score(self, network: nn.Module) -> float:
        """The network's, which is left as it was."""
        training = [module for module in network.modules() if module.training]
        network.eval()
        answers = [network(normalise(batch["image"], self.spec.mean, self.spec.std)) for batch in self.batches]
        for module in training:
            module.training = True
        preds = {
            task: torch.cat([_logits(each, i, task) for each in answers]) for i, task in enumerate(self.space.names)
        }
        codes = self.space.encode({task: logits.argmax(1).numpy() for task, logits in preds.items()})
        classes = range(self.space.num_codes)
        return float(f1_score(self.truth, codes, average="macro", labels=classes, zero_division=0))


def _logits(outputs: Any, number: int, task: str) -> Tensor:
    """Return the logits of one task: our module names them, the other one counts them."""
    logits: Tensor = outputs[task] if isinstance(outputs, dict) else outputs[number]
    return logits


class Judging(pl.Callback):
    """The judge, where the Trainer can see it."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.judge.plan(int(trainer.estimated_stepping_batches))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.judge.after_step(pl_module)


def ours(settings: TrainSettings, folder: Path, points: int) -> None:
    """As a run trains; its photo cache is made on the clock."""
    photos, spec = find_photos(settings), choose_transform(settings)
    run = PreparedRun(settings, spec, photos, photos)
    module = run.build_pretrained_module()
    pause()
    cache = open_cache(settings, photos, spec)
    data = replace(run, cache=cache).build_data()
    learning = [*trainers.learning_callbacks(data, module), *trainers.selection_callbacks(settings, module)]
    judging = Judging(Judge(photos, spec, cache, points))
    trainer = trainers.make_trainer(settings, folder, [*learning, judging])
    with trainers.without_advice():
        trainer.fit(module, data)


def fastai(settings: TrainSettings, folder: Path, points: int, *, channels_last: bool = False) -> None:
    """The best recipe that was found for a Learner, which decodes every photo each time, as it does."""
    from fastai_learner import Callback, make_learner

    photos, spec = find_photos(settings), choose_transform(settings)
    pl.seed_everything(settings.seed, verbose=False)
    network = TimmHeads(settings.model.backbone, [task.num_classes for task in photos.space.tasks])
    load_pretrained([network.backbone], settings.model.backbone, settings.model.pretrained, image_size=spec.size)
    judge = Judge(photos, spec, open_cache(settings, photos, spec), points)

    class Judged(Callback):
        def after_batch(self) -> None:
            if self.training:
                judge.after_step(self.model)

    learner = make_learner(network, summed_loss, photos, spec, settings.data.batch_size, channels_last=channels_last)
    judge.plan(EPOCHS * len(learner.dls.train))
    pause()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(EPOCHS, RATES, cbs=Judged())


def fastai_channels_last(settings: TrainSettings, folder: Path, points: int) -> None:
    """The same with the callback."""
    fastai(settings, folder, points, channels_last=True)


KINDS = {each.__name__: each for each in (ours, fastai, fastai_channels_last)}

if __name__ == "__main__":
    kind, place, count, *overrides = sys.argv[1:]
    KINDS[kind](check(TrainSettings, compose("train", TrainSettings, overrides)), Path(place), int(count))
