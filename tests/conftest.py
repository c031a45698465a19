"""Shared fixtures: a tiny competition folder, the fairmask photos where they are, and skipping without CUDA."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from absl import logging as absl_logging
from PIL import Image
from tiny_runs import ONE_EPOCH, TINY_RUN, without_figures

from mask_lightning.cli.compose import compose, store_defaults
from mask_lightning.pipelines import find_lr, vote
from mask_lightning.reports import audit_report, evaluation_report, figures, run_report, sweep_report
from mask_lightning.settings.base import check
from mask_lightning.settings.mask_faces import MaskFacesSettings
from mask_lightning.settings.train import TrainSettings

torch.set_num_threads(1)
# abseil, which torch.onnx imports, closes its handler's stream: not that of pytest.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__
for options in (TrainSettings, MaskFacesSettings):  # for tests that call hydra.compose themselves
    store_defaults(options)

pytest_plugins = ["prediction_fixtures"]


def pytest_collection_finish() -> None:
    """Exclude what was imported from garbage collection, whose passes over it would take a sixth of the time."""
    gc.collect()
    gc.freeze()


Compose = Callable[..., TrainSettings]
SAVE_FIGURES = (audit_report, evaluation_report, find_lr, run_report, sweep_report, vote)

PHOTO_SETS = {"fairmask", "fairface_photos", "wild", "field_cases"}
SHOTS = {"mask1": 0, "mask2": 0, "mask3": 0, "mask4": 0, "mask5": 0, "incorrect_mask": 1, "normal": 2}
SUFFIXES = (".jpg", ".jpeg", ".png")
# (gender, race, years of the people): every gender x age band at least twice, the old rare and women the more.
PEOPLE = (
    ("female", "Asian", (18, 22, 24, 26, 28, 29)),
    ("female", "White", (30, 36, 41, 48, 59)),
    ("female", "Black", (60, 63, 70)),
    ("male", "Asian", (19, 25, 29)),
    ("male", "Indian", (31, 44, 50, 57)),
    ("male", "White", (60, 66)),
)


def folder_names() -> list[str]:
    """24 folders: ids with leading zeros, 000003 and its namesake 000003-1, and 000022 at two ages."""
    described = [f"{gender}_{race}_{age}" for gender, race, ages in PEOPLE for age in ages]
    ids = [f"{i:06d}" for i in range(1, len(described) + 1)]
    ids[3] = "000003-1"
    return [*(f"{i}_{rest}" for i, rest in zip(ids, described, strict=True)), "000022_male_White_59"]


def draw(name: str, shot: str, rng: np.random.Generator) -> Image.Image:
    """96 x 128 patches: the background tells the gender, a band on top the age, a patch below the mask."""
    _, gender, _, years = name.split("_")
    pixels = np.empty((128, 96, 3))
    pixels[:] = (170, 90, 90) if gender == "female" else (90, 90, 170)
    pixels[8:48] = 40 + 80 * np.digitize(int(years), (30, 60))
    pixels[70:110, 20:76] = ((240, 240, 240), (60, 200, 60), (200, 150, 120))[SHOTS[shot]]
    noisy = pixels + rng.normal(0, 8, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def competition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds train/ in the competition's layout: 24 folders x 7 photos; copy it to change it.

    23 ids, since 000022 stands twice (59 and 60 years), in 22 families, since 000003-1 stays with 000003. Suffixes
    are mixed, `._mask1.jpg` lies beside one person's photos, and train.csv names every folder.
    """
    root = tmp_path_factory.mktemp("competition")
    images = root / "train" / "images"
    rng = np.random.default_rng(0)
    names = folder_names()
    for i, name in enumerate(names):
        (images / name).mkdir(parents=True)
        for j, shot in enumerate(SHOTS):
            draw(name, shot, rng).save(images / name / f"{shot}{SUFFIXES[(i + j) % 3]}")
    (images / names[0] / "._mask1.jpg").write_bytes(b"\0\5\26\7macOS")
    (images / ".DS_Store").write_bytes(b"macOS")
    rows = [[*name.split("_"), name] for name in names]
    pd.DataFrame(rows, columns=["id", "gender", "race", "age", "path"]).to_csv(
        root / "train" / "train.csv", index=False
    )
    return root


def find_photos(variable: str, holds: str) -> Path:
    """Return a set of photos: at $VARIABLE, or in ../shared beside the checkout; else skip the test."""
    beside = Path(__file__).resolve().parents[2] / "shared" / variable.lower()
    root = Path(os.environ.get(variable) or beside)
    if not (root / holds).exists():
        pytest.skip(f"no photos at {root}; set {variable} to the folder that holds {holds}")
    return root


@pytest.fixture(scope="session")
def fairmask() -> Path:
    """Real faces with drawn masks in the competition's layout."""
    return find_photos("FAIRMASK", "train/images")


@pytest.fixture(scope="session")
def fairface_photos() -> Path:
    """Real faces of adults with gender and age, as FairFace is downloaded."""
    return find_photos("FAIRFACE", "fairface_label_train.csv")


@pytest.fixture(scope="session")
def wild() -> Path:
    """Real photos with and without masks, one folder per class."""
    return find_photos("WILD", "with_mask")


@pytest.fixture(scope="session")
def field_cases() -> Path:
    """Small inputs of kinds that users report."""
    return find_photos("FIELD_CASES", "tables")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses photos beside the checkout, and skip `gpu` tests where there is no CUDA."""
    for item in items:
        for name in PHOTO_SETS & set(getattr(item, "fixturenames", ())):
            item.add_marker(name)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs CUDA, which this machine lacks"))


@pytest.fixture(scope="session", autouse=True)
def without_rendering() -> Iterator[None]:
    """Let the commands plot their figures and write empty files: to render them takes longer than a tiny training."""
    with pytest.MonkeyPatch.context() as patch:
        for module in SAVE_FIGURES:
            patch.setattr(module, "save_figure", lambda figure, path: path.touch())
        yield


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Render the figures, as the commands do."""
    for module in SAVE_FIGURES:
        monkeypatch.setattr(module, "save_figure", figures.save_figure)


@pytest.fixture
def no_figures() -> Iterator[None]:
    """Let runs plot no figures at all, for tests that train many times."""
    with without_figures():
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Compose:
    """Overrides -> validated settings of a run that would write below tmp_path/outputs."""
    fixed = [f"outputs={tmp_path / 'outputs'}", "hydra.run.dir=."]
    return lambda *overrides: check(TrainSettings, compose("train", TrainSettings, [*fixed, *overrides]))


@pytest.fixture
def compose_train(
    settings: Callable[..., TrainSettings], competition: Path, tmp_path: Path
) -> Callable[..., TrainSettings]:
    """Settings of a run of seconds on the competition folder, with overrides; it writes below tmp_path."""
    return partial(
        settings, *TINY_RUN, *ONE_EPOCH, "data.clean_train_photos=28", f"outputs={tmp_path}", f"data.root={competition}"
    )


@pytest.fixture
def handlers() -> Iterator[None]:
    """Hydra configures the root logger of the process that it runs in."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before[0]):
        handler.close()
    root.handlers, root.level = before
