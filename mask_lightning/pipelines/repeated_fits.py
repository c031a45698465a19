"""Train an existing module repeatedly, one run folder per fit: what the notebook functions share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pytorch_lightning as pl

from mask_lightning.data.ages import check_years
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ConfigError
from mask_lightning.optim.phases import Unfreeze
from mask_lightning.pipelines.photos import Photos
from mask_lightning.pipelines.prepare import PreparedRun, prepare_run
from mask_lightning.pipelines.train import claim_run, fit_run
from mask_lightning.runs.folder import RunFolder, RunResult, new_run_name
from mask_lightning.settings.base import check, check_range
from mask_lightning.settings.optim import PhaseSettings
from mask_lightning.settings.train import TrainSettings

MODULE_SECTIONS = ("model", "head", "sharing", "loss", "weighting")  # sections that define the module and its loss

LearningRate = float | slice  # slice(low, high): from the first layer group to the heads


@dataclass(frozen=True, eq=False)
class Data:
    """Photos, split by person, with all options of the runs on them.

    Attributes:
        settings: every option of `python -m mask_lightning.train`; a fit replaces those of its optimization.
        photos: the split and the tasks.
        spec: how a photo is prepared.
        overrides: options as typed.
    """

    settings: TrainSettings
    photos: Photos
    spec: TransformSpec
    overrides: tuple[str, ...] = ()

    @cached_property
    def run(self) -> PreparedRun:
        """The photos decoded into the cache, broken ones replaced. Raises PhotoError as `pipelines.prepare`."""
        return prepare_run(self.settings, self.photos)

    @cached_property
    def loaders(self) -> FaceDataModule:
        """The data module, for a Lightning Trainer of your own."""
        return self.run.build_data()

    def __repr__(self) -> str:
        sides = (("train", self.photos.split.train), ("val", self.photos.split.val))
        counts = [f"{side} {rows['person_id'].nunique()} people, {len(rows)} photos" for side, rows in sides]
        tasks = ", ".join(self.photos.space.names)
        return f"Data({self.photos.root}: {'; '.join(counts)}; tasks {tasks}; {self.spec.size} pixels)"


@dataclass(frozen=True, eq=False)
class Run:
    """A finished fit.

    Attributes:
        folder: run folder, as written by the commands: `python -m mask_lightning.predict ckpt=FOLDER` works on it.
        result: its record.
        data: photos and options that it was trained on.
        phases: phases that it was trained in.
    """

    folder: RunFolder
    result: RunResult
    data: Data
    phases: tuple[PhaseSettings, ...]

    def __repr__(self) -> str:
        score = "no score" if self.score is None else f"{self.result.monitor} {self.score:.3f}"
        return f"Run({self.folder.path}: {score} after epoch {self.result.best_epoch})"

    @property
    def score(self) -> float | None:
        """Monitored metric of the best checkpoint."""
        return self.result.score


def fit(
    module: MultiTaskModule,
    data: Data,
    *,
    lr: float,
    schedule: Mapping[str, Any],
    phases: Sequence[Mapping[str, Any]],
) -> Run:
    """Train the module from its present weights; afterwards it has the weights of the last epoch.

    Args:
        module: network with the loss that it was built with.
        data: photos, and all options but those of optimization.
        lr: largest learning rate of the heads.
        schedule: `name` and options, as in conf/schedule.
        phases: as `finetune.phases`.

    Raises:
        MaskLightningError, KeyboardInterrupt: as `pipelines.train.train_run`.
    """
    settings = settings_for(module, data, lr=lr, schedule=schedule, phases=phases)
    plain = settings.model_dump(mode="json")
    module.plan(optim=plain["optim"], schedule=plain["schedule"], phases=plain["finetune"]["phases"], config=plain)
    run, path = replace(data.run, settings=settings), settings.outputs / "runs" / new_run_name()
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    folder = claim_run(run, path, module, overrides=data.overrides)
    result = fit_run(run, folder, module)
    return Run(folder, result, data, tuple(module.phases))


def fit_one_phase(
    module: MultiTaskModule,
    data: Data,
    epochs: int,
    lr: LearningRate | None,
    unfreeze: Unfreeze,
    schedule: Mapping[str, Any],
) -> Run:
    """Call `fit` with one phase; `lr` may be a number, `slice(low, high)`, or None for the `optim.lr` of the data."""
    check_epochs("epochs", epochs)
    high, ratio = _lr_and_ratio(data.settings.optim.lr if lr is None else lr)
    phase = {"epochs": epochs, "unfreeze": unfreeze, "lr_ratio": ratio}
    return fit(module, data, lr=high, schedule=schedule, phases=[phase])


def settings_for(
    module: MultiTaskModule,
    data: Data,
    *,
    lr: float,
    schedule: Mapping[str, Any],
    phases: Sequence[Mapping[str, Any]],
) -> TrainSettings:
    """Return the settings of the module's next fit: its own network and loss, this optimization, all else from `data`.

    Raises:
        ConfigError: a value out of range, or a module that does not fit the data.
        SampleTableError: the module learns from ages in years, and none are known.
    """
    check_fitting(module, data)
    own = module.hparams["config"]
    base = data.settings.model_dump(mode="json")
    settings = with_sections(
        data.settings,
        **{section: own.get(section, {}) for section in MODULE_SECTIONS},
        seed=(base["seed"] + max(len(module.lineage) - 1, 0)) % 2**32,  # not the same augmentation again
        optim={**base["optim"], "lr": lr},
        schedule=schedule,
        finetune={"epochs": sum(phase["epochs"] for phase in phases), "phases": phases},
    )
    if settings.head.predicts_number:
        check_years(data.photos.labels, needed_by=f"a module with head={settings.head.name}")
    return settings


def with_sections(settings: TrainSettings, **sections: Any) -> TrainSettings:
    """Return the settings with some sections replaced. Raises ConfigError if they do not fit together."""
    return check(TrainSettings, {**settings.model_dump(mode="json"), **sections})


def check_fitting(module: MultiTaskModule, data: Data) -> None:
    """Raise ConfigError unless the module is one of `build_module`, with the tasks and the transform of the data."""
    if not isinstance(module, MultiTaskModule) or module.hparams["config"] is None:
        raise ConfigError(f"expected a module of build_module(data), got {type(module).__name__}; build it with that")
    spec = TransformSpec.from_plain(module.hparams["transform"])
    tasks = ("learns", module.space.to_plain(), data.photos.space.to_plain())
    for verb, wanted, found in (tasks, ("wants photos as", spec, data.spec)):
        if wanted != found:
            raise ConfigError(f"the module {verb} {wanted}, data has {found}; make one that fits: build_module(data)")


def check_epochs(name: str, value: int) -> None:
    """Raise ConfigError unless `value` is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}")


def _lr_and_ratio(lr: Any) -> tuple[float, float]:
    """Return the lr of the heads, and its ratio to the lr of the first layer group."""
    if not isinstance(lr, slice):
        check_range("lr", lr, "(0, 100]", "give a number, or slice(low, high)")
        return float(lr), 1.0
    low, high = lr.start, lr.stop
    check_range("the end of slice(low, high)", high, "(0, 100]", "it is the lr of the heads")
    check_range("the start of slice(low, high)", low, f"(0, {high}]", "it is the lr of the first layer group")
    return float(high), float(high / low)
