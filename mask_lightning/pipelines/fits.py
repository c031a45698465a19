"""Fits of a module that stands already, one after the other: each a run with a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytorch_lightning as pl

from mask_lightning.data.ages import check_years
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ConfigError
from mask_lightning.optim.curves import check_range
from mask_lightning.optim.phases import Phase, Unfreeze
from mask_lightning.pipelines import prepare as assembly
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.usable_photos import usable_photos
from mask_lightning.runs.folder import RunFolder, RunResult, new_name
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings

OF_THE_MODULE = ("model", "head", "sharing", "loss", "weighting")  # sections of the config that it was built with

LearningRate = float | slice  # slice(low, high): from the first layer group to the heads


@dataclass(frozen=True, eq=False)
class Data:
    """Photos, split by person, and all that a run on them is told.

    Attributes:
        settings: every option of `python -m mask_lightning.train`; a fit replaces optimisation by its own.
        photos: the split, and the tasks; `usable` are those that can be decoded.
        spec: what becomes of a photo.
        overrides: the options as they were typed.
    """

    settings: TrainSettings
    photos: assembly.Photos
    spec: TransformSpec
    overrides: tuple[str, ...] = ()

    @cached_property
    def usable(self) -> assembly.Photos:
        """The photos, as `data.on_bad_photo` says. Raises PhotoError as `usable_photos`."""
        return usable_photos(self.settings, self.photos)

    @cached_property
    def loaders(self) -> FaceDataModule:
        """The Lightning data module, for a Trainer of your own."""
        usable = self.usable
        cache = assembly.open_cache(self.settings, usable, self.spec, tell=False)  # `usable_photos` has
        return assembly.build_data(self.settings, usable, self.spec, cache)

    def __repr__(self) -> str:
        sides = (("train", self.photos.split.train), ("val", self.photos.split.val))
        counts = [f"{side} {rows['person_id'].nunique()} people, {len(rows)} photos" for side, rows in sides]
        tasks = ", ".join(self.photos.space.names)
        return f"Data({self.photos.root}: {'; '.join(counts)}; tasks {tasks}; {self.spec.size} pixels)"


@dataclass(frozen=True, eq=False)
class Run:
    """What a fit left.

    Attributes:
        folder: the run's folder, as the commands leave it: `python -m mask_lightning.predict ckpt=FOLDER` works on it.
        result: its record.
        data: what it was trained on.
        phases: how.
    """

    folder: RunFolder
    result: RunResult
    data: Data
    phases: tuple[Phase, ...]

    def __repr__(self) -> str:
        score = "no score" if self.score is None else f"{self.result.monitor} {self.score:.3f}"
        return f"Run({self.folder.path}: {score} after epoch {self.result.best_epoch})"

    @property
    def score(self) -> float | None:
        """The monitored metric of the best checkpoint."""
        return self.result.score


def fit(
    module: MultiTaskModule,
    data: Data,
    *,
    lr: float,
    schedule: Mapping[str, Any],
    phases: Sequence[Mapping[str, Any]],
) -> Run:
    """Train from the weights that the module has; afterwards it has those of the last epoch.

    Args:
        module: the network, with the loss that it was built with.
        data: all other options but optimisation, and the photos.
        lr: of the heads, at the schedule's top.
        schedule: `name` and options, as in conf/schedule.
        phases: as `finetune.phases`.

    Raises:
        MaskLightningError, KeyboardInterrupt: as `runs.train_run`.
    """
    settings = settings_of(module, data, lr=lr, schedule=schedule, phases=phases)
    plain = settings.model_dump(mode="json")
    module.plan(optim=plain["optim"], schedule=plain["schedule"], phases=plain["finetune"]["phases"], config=plain)
    folder = RunFolder(settings.outputs / "runs" / new_name())
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    result = runs.fit_module(settings, folder.path, data.photos, module, overrides=data.overrides)
    return Run(folder, result, data, tuple(module.phases))


def fit_one_phase(
    module: MultiTaskModule,
    data: Data,
    epochs: int,
    lr: LearningRate | None,
    unfreeze: Unfreeze,
    schedule: Mapping[str, Any],
) -> Run:
    """`fit` for `epochs` with one lr, or `slice(low, high)` of them; None: the data's `optim.lr`."""
    check_epochs("epochs", epochs)
    high, ratio = _lr_and_ratio(data.settings.optim.lr if lr is None else lr)
    phase = {"epochs": epochs, "unfreeze": unfreeze, "lr_ratio": ratio}
    return fit(module, data, lr=high, schedule=schedule, phases=[phase])


def settings_of(
    module: MultiTaskModule,
    data: Data,
    *,
    lr: float,
    schedule: Mapping[str, Any],
    phases: Sequence[Mapping[str, Any]],
) -> TrainSettings:
    """The settings of the module's next fit: its own network and loss, the data's other options, and this plan.

    Raises:
        ConfigError: a value out of range, or a module that does not fit the data.
        SampleTableError: the module learns from ages in years, and none are known.
    """
    check_fitting(module, data)
    own = module.hparams["config"]
    base = data.settings.model_dump(mode="json")
    settings = with_sections(
        data.settings,
        **{section: own.get(section, {}) for section in OF_THE_MODULE},
        seed=(base["seed"] + max(len(module.lineage) - 1, 0)) % 2**32,  # not the earlier fit's augmentation again
        optim={**base["optim"], "lr": lr},
        schedule=schedule,
        finetune={"epochs": sum(phase["epochs"] for phase in phases), "phases": phases},
    )
    if settings.head.predicts_number:
        check_years(data.photos.learned, needed_by=f"a module with head={settings.head.name}")
    return settings


def with_sections(settings: TrainSettings, **sections: Any) -> TrainSettings:
    """The settings with some sections replaced. Raises ConfigError, as a command would, where they do not fit."""
    return check(TrainSettings, {**settings.model_dump(mode="json"), **sections})


def check_fitting(module: MultiTaskModule, data: Data) -> None:
    """Raises ConfigError where the module is none of ours, or learns other tasks or wants other photos."""
    if not isinstance(module, MultiTaskModule) or module.hparams["config"] is None:
        raise ConfigError(f"expected a module of build_module(data), got {type(module).__name__}; build it with that")
    spec = TransformSpec.from_plain(module.hparams["transform"])
    tasks = ("learns", module.space.to_plain(), data.photos.space.to_plain())
    for verb, wanted, found in (tasks, ("wants photos as", spec, data.spec)):
        if wanted != found:
            raise ConfigError(f"the module {verb} {wanted}, data has {found}; make one that fits: build_module(data)")


def check_epochs(name: str, value: int) -> None:
    """Raises ConfigError unless `value` is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}")


def _lr_and_ratio(lr: Any) -> tuple[float, float]:
    """An lr, or `slice(low, high)` -> the heads' lr, and by how much that of the first layer group is smaller."""
    if not isinstance(lr, slice):
        check_range("lr", lr, "(0, 100]", "give a number, or slice(low, high)")
        return float(lr), 1.0
    low, high = lr.start, lr.stop
    check_range("the end of slice(low, high)", high, "(0, 100]", "it is the lr of the heads")
    check_range("the start of slice(low, high)", low, f"(0, {high}]", "it is the lr of the first layer group")
    return float(high), float(high / low)
