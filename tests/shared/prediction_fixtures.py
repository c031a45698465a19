"""Shared fixtures: small checkpoints, run folders, photos without labels, random predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from mask_lightning.data.transforms import TransformSpec
from mask_lightning.engine.modules import module_class
from mask_lightning.labels import FACE, LabelSpace
from mask_lightning.metrics.predictions import Predictions, Source, no_targets
from mask_lightning.runs.folder import RunFolder, RunResult

MakeCheckpoint = Callable[..., Path]
MakePredictions = Callable[..., Predictions]

SPEC = TransformSpec(crop_height=48, crop_width=32, size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
NUMBER = {"counts": [1.0] * 61, "weights": "inverse", "smoothing": 2.0}


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> MakeCheckpoint:
    """Write Lightning's checkpoint of an untrained network for some tasks."""

    def make(
        name: str = "tiny.ckpt", space: LabelSpace = FACE, seed: int = 0, heads: dict[str, Any] | None = None
    ) -> Path:
        torch.manual_seed(seed)
        module = module_class(space)(
            tasks=space.to_plain(),
            backbone="test_resnet",
            class_counts={task.name: [1] * task.num_classes for task in space.tasks},
            transform=SPEC.to_plain(),
            network={} if heads is None else {"heads": heads},
            loss={"numbers": {task: NUMBER for task, head in (heads or {}).items() if "top" in head}},
            optim={"name": "adamw", "lr": 1e-3, "weight_decay": 0.0},
            schedule={"name": "constant"},
            phases=[{"epochs": 1}],
        )
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
        trainer.strategy.connect(module)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(path)
        return path

    return make


@pytest.fixture
def eval_folder(tmp_path: Path) -> Path:
    """A folder that holds eval/: five photos in an order of their own, and one that info.csv does not name."""
    images = tmp_path / "data" / "eval" / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = ["c3.jpg", "a1.png", "e5.jpg", "b2.jpg", "d4.jpeg"]
    for name in [*names, "other.jpg"]:
        Image.fromarray(rng.integers(0, 256, (64, 48, 3), np.uint8)).save(images / name)
    pd.DataFrame({"ImageID": names, "ans": 0}).to_csv(images.parent / "info.csv", index=False)
    return tmp_path / "data"


@pytest.fixture
def make_predictions() -> MakePredictions:
    """Random probabilities for some photos."""

    def make(photos: Sequence[str] = ("a.jpg", "b.jpg", "c.jpg"), space: LabelSpace = FACE, seed: int = 0):
        rng = np.random.default_rng(seed)
        probs = {
            task.name: rng.dirichlet(np.ones(task.num_classes), len(photos)).astype(np.float32) for task in space.tasks
        }
        table = pd.DataFrame({"photo": list(photos), "path": [f"/photos/{name}" for name in photos]})
        source = Source(f"run{seed}/best.ckpt", f"{seed:064x}", "test_resnet", space.names, SPEC.to_plain())
        return Predictions(space, table, probs, *no_targets(space, len(photos)), (source,))

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write config and record of a finished run, as a member of an ensemble or of none."""

    def make(
        name: str,
        member: str | None = None,
        *,
        task: str = "age",
        score: float | None = 0.5,
        photos: str = "abc",
        **data: Any,
    ) -> Path:
        split = {"val_fraction": 0.2, "folds": None, "fold": None, "split_seed": 0}
        folder = RunFolder(tmp_path / name)
        best = {} if score is None else {f"val/{task}/f1": score}
        result = RunResult("finished", "val/f1", best=best, data={"fingerprint": photos})
        config = {"member": member, "seed": 0, "task": {"tasks": [task]}, "data": {**split, **data}}
        folder.claim(config, result)
        return folder.path

    return make


MakeLabelled = Callable[..., Predictions]


@pytest.fixture(scope="session")
def make_labelled() -> MakeLabelled:
    """Predictions of photos whose targets, people and further columns are given; probabilities are random if not."""

    def make(
        people: Sequence[str],
        targets: dict[str, Any],
        *,
        probs: dict[str, Any] | None = None,
        space: LabelSpace = FACE,
        seed: int = 0,
        **columns: Sequence[str],
    ) -> Predictions:
        rng = np.random.default_rng(seed)
        space = space.only(list(targets))
        probs = probs or {t.name: rng.dirichlet(np.ones(t.num_classes), len(people)) for t in space.tasks}
        photos = pd.DataFrame({"photo": [f"{i}.jpg" for i in range(len(people))], "person_id": list(people), **columns})
        return Predictions(
            space,
            photos,
            {task: np.asarray(values, np.float32) for task, values in probs.items()},
            {task: np.asarray(values, np.int64) for task, values in targets.items()},
            {task: np.full(len(people), np.nan, np.float32) for task in space.names},
            (),
        )

    return make
