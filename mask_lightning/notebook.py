"""Train and inspect networks in a notebook, with the same code, options and run folders as the commands.

    from mask_lightning.notebook import *

    data = load_data("faces", model="lite0")
    show_batch(data)
    module = build_module(data)
    found = lr_find(module, data, unfreeze="heads")
    run = fine_tune(module, data, epochs=3, lr=suggest(found).minimum)

Every function returns an object or a matplotlib Figure, which Jupyter shows at the end of a cell.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mask_lightning.callbacks.lr_range_test import RangeTestResult, suggest
from mask_lightning.cli.compose import compose
from mask_lightning.data.splits import draw_stratified
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ConfigError, NoSuggestionError
from mask_lightning.inference.exported import from_pretrained
from mask_lightning.inference.predict import predict
from mask_lightning.inference.trained import choose_device, load_trained
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.optim.phases import Unfreeze
from mask_lightning.pipelines.find_lr import run_range_test
from mask_lightning.pipelines.photos import find_photos
from mask_lightning.pipelines.prepare import PreparedRun, choose_transform
from mask_lightning.pipelines.repeated_fits import (
    Data,
    LearningRate,
    Run,
    check_epochs,
    fit,
    fit_one_phase,
    settings_for,
    with_sections,
)
from mask_lightning.reports import training_curves
from mask_lightning.reports.photo_grids import plot_results
from mask_lightning.reports.run_report import plot_augmented
from mask_lightning.settings.base import check, check_range
from mask_lightning.settings.train import TrainSettings

__all__ = [
    "build_module",
    "fine_tune",
    "fit_flat_cos",
    "fit_one_cycle",
    "from_pretrained",
    "get_preds",
    "load_data",
    "lr_find",
    "plot_curves",
    "plot_lr_range",
    "show_batch",
    "show_results",
    "suggest",
]

QUIET_LOGGERS = (  # tips and rank messages of Lightning, which conf/train.yaml silences for the commands
    "pytorch_lightning.utilities.rank_zero",
    "lightning_fabric.utilities.rank_zero",
    "pytorch_lightning.trainer.connectors.checkpoint_connector",
    "pytorch_lightning.trainer.connectors.signal_connector",
)


def load_data(
    root: str | Path | None = None,
    *overrides: str,
    model: str | None = None,
    task: str | None = None,
    backbone: str | None = None,
) -> Data:
    """Find the photos and split them by person.

    Args:
        root: folder of the photos; None draws portraits.
        overrides: any option of `python -m mask_lightning.train`, as typed there: "augment=randaugment_zoom",
            "data.limit_people=40", "optim=ranger". Phases and schedule are arguments of each fit instead.
        model: a file of conf/model; None for resnet34.
        task: "all", "mask", "gender" or "age"; None for all.
        backbone: any timm classifier in place of the model's, at the size that its weights were trained on.

    Raises:
        MaskLightningError: the options or photos are not as expected.
    """
    groups = [f"{group}={choice}" for group, choice in (("model", model), ("task", task)) if choice]
    swap = [f"model.backbone={backbone}", "model.image_size=null"] if backbone else []
    typed = (*groups, *swap, *overrides)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    config = compose("train", TrainSettings, ["finetune=none", *typed])  # each fit has its own phases
    if root is not None:
        config["data"]["root"] = str(root)  # not as an override: a path may contain characters that Hydra interprets
    settings = check(TrainSettings, config)
    spec = choose_transform(settings)
    return Data(settings, find_photos(settings), spec, typed)


def show_batch(data: Data) -> Figure:
    """Plot augmented training photos as the network sees them, with their labels."""
    return plot_augmented(data.loaders, data.photos.space)


def build_module(data: Data, *, backbone: str | None = None) -> MultiTaskModule:
    """Build the network for these photos, pretrained as `model.pretrained` says.

    Args:
        data: defines the tasks, the transform and, unless named here, the backbone.
        backbone: another timm classifier that takes the same transform.

    Raises:
        ConfigError: there is no such backbone, or it needs another transform.
        WeightsError: pretrained weights are required and cannot be found.
    """
    settings = data.settings
    if backbone is not None:
        model = {**settings.model.model_dump(mode="json"), "backbone": backbone}
        settings = with_sections(settings, model=model)
        spec = choose_transform(settings)
        if spec != data.spec:
            raise ConfigError(
                f"{backbone} needs photos prepared as {spec}, data has {data.spec}; "
                f"load them for it: load_data(..., backbone={backbone!r})"
            )
    # The photos as found: none is decoded before the first fit.
    return PreparedRun(settings, data.spec, data.photos, data.photos).build_pretrained_module()


def lr_find(
    module: MultiTaskModule,
    data: Data,
    *,
    start_lr: float = 1e-7,
    end_lr: float = 10.0,
    num_steps: int = 100,
    unfreeze: Unfreeze = "all",
) -> RangeTestResult:
    """Run the LR range test; afterwards the module is bit for bit as before.

    Args:
        module: as in `fine_tune`.
        data: as in `fine_tune`.
        start_lr: first learning rate.
        end_lr: last learning rate; in between it rises exponentially.
        num_steps: optimizer steps, at least 10.
        unfreeze: layer groups to train, see `fit_one_cycle`; "heads" for the lr of `fine_tune`, which starts with them.

    Returns:
        Learning rates and losses; `suggest` and `plot_lr_range` take them.

    Raises:
        ConfigError: an argument is out of range, or the module does not fit the data.
        KeyboardInterrupt: Ctrl-C.
    """
    epochs = max(data.settings.epochs, 1)  # a probe has none
    schedule, phase = data.settings.schedule.model_dump(), {"epochs": epochs, "unfreeze": unfreeze}
    settings = settings_for(module, data, lr=1.0, schedule=schedule, phases=[phase])
    sweep = {"start_lr": start_lr, "end_lr": end_lr, "num_steps": num_steps}
    return run_range_test(replace(data.run, settings=with_sections(settings, range_test=sweep)), module)


def plot_lr_range(result: RangeTestResult) -> Figure:
    """Plot the curve of `lr_find` with its suggestions (`suggest(result).minimum`, ...), or why there are none."""
    try:
        return training_curves.plot_lr_range(result, suggest(result), "minimum")
    except NoSuggestionError as error:
        figure = training_curves.plot_lr_range(result)
        figure.suptitle(str(error), fontsize=9, wrap=True)
        return figure


def fine_tune(
    module: MultiTaskModule,
    data: Data,
    epochs: int,
    lr: float = 2e-3,
    *,
    freeze_epochs: int = 1,
    lr_mult: float = 100.0,
    pct_start: float = 0.3,
    div: float = 5.0,
) -> Run:
    """Train as fastai's `fine_tune` does: the heads alone, then all layers with discriminative learning rates.

    Args:
        module: starts from its present weights; afterwards it has those of the last epoch.
        data: photos to train and to validate on.
        epochs: number of epochs in which all layers train.
        lr: learning rate of the heads while they train alone; half of it afterwards.
        freeze_epochs: number of epochs before, for the heads alone, with a one-cycle that rises for 99 % of the time.
        lr_mult: ratio of the heads' lr to that of the first layer group while all layers train.
        pct_start: share of the second one-cycle in which the lr rises.
        div: ratio of the largest to the first lr of the second one-cycle.

    Raises:
        ConfigError: an argument is out of range, or the module does not fit the data.
        KeyboardInterrupt: Ctrl-C or the stop button; the run can be continued with `resume`.
    """
    check_epochs("epochs", epochs)
    check_epochs("freeze_epochs", freeze_epochs)
    check_range("lr", lr, "(0, 100]", "the lr of each layer group follows from lr_mult")
    check_range("lr_mult", lr_mult, "[1, inf)")
    frozen = {"epochs": freeze_epochs, "unfreeze": "heads", "schedule": {"pct_start": 0.99}}
    whole = {"epochs": epochs, "lr_scale": 0.5, "lr_ratio": lr_mult, "schedule": {"pct_start": pct_start, "div": div}}
    return fit(module, data, lr=float(lr), schedule={"name": "one_cycle"}, phases=[frozen, whole])


def fit_one_cycle(
    module: MultiTaskModule,
    data: Data,
    epochs: int,
    lr: LearningRate | None = None,
    *,
    div: float = 25.0,
    div_final: float = 1e5,
    pct_start: float = 0.25,
    moms: Sequence[float] | None = (0.95, 0.85, 0.95),
    unfreeze: Unfreeze = "all",
) -> Run:
    """Train as fastai's `fit_one_cycle` does: the lr rises and falls along cosines, the momentum falls and rises.

    Args:
        module: as in `fine_tune`.
        data: as in `fine_tune`.
        epochs: number of epochs.
        lr: largest lr; `slice(low, high)` from the first layer group to the heads; None for `optim.lr`.
        div: ratio of the largest to the first lr.
        div_final: ratio of the largest to the last lr.
        pct_start: share of the time in which the lr rises.
        moms: first, lowest and last momentum; None keeps the optimizer's.
        unfreeze: "all", "heads", {"last": n} or names of layer groups to train; all others are frozen.

    Raises:
        ConfigError, KeyboardInterrupt: as `fine_tune`.
    """
    options = {"div": div, "div_final": div_final, "pct_start": pct_start, "moms": None if moms is None else [*moms]}
    return fit_one_phase(module, data, epochs, lr, unfreeze, {"name": "one_cycle", **options})


def fit_flat_cos(
    module: MultiTaskModule,
    data: Data,
    epochs: int,
    lr: LearningRate | None = None,
    *,
    div_final: float = 1e5,
    pct_start: float = 0.75,
    unfreeze: Unfreeze = "all",
) -> Run:
    """Train as fastai's `fit_flat_cos` does: lr constant for `pct_start` of the time, then falling along a cosine."""
    schedule = {"name": "flat_cosine", "div_final": div_final, "pct_start": pct_start}
    return fit_one_phase(module, data, epochs, lr, unfreeze, schedule)


def get_preds(run: Run) -> Predictions:
    """Predict the held-out people with the run's best checkpoint; the training photos if nobody is held out."""
    return _predict(run, _evaluation_rows(_checked(run).data)[0])


def show_results(run: Run, *, photos: int = 16) -> Figure:
    """Plot some held-out photos with their labels and the predictions of the best checkpoint, wrong ones in red."""
    rows, title = _evaluation_rows(_checked(run).data)
    some = draw_stratified(rows, photos, strata=run.data.photos.space.names, seed=run.data.settings.seed)
    return plot_results(_predict(run, some), run.data.spec, title=f"{title}: truth above, prediction below")


def plot_curves(run: Run) -> Figure:
    """Plot loss and macro F1 per epoch: training, clean training photos, validation."""
    history = pd.read_csv(_checked(run).folder.metrics)
    return training_curves.plot_curves(history, run.phases, run.data.photos.space.names)


def _evaluation_rows(data: Data) -> tuple[pd.DataFrame, str]:
    split = data.run.photos.split
    return (split.train, "training photos (nobody was held out)") if split.val.empty else (split.val, "held-out people")


def _predict(run: Run, rows: pd.DataFrame) -> Predictions:
    settings = run.data.settings
    trained = load_trained(run.folder.best, choose_device(settings.trainer.accelerator))
    return predict(trained, rows, num_workers=settings.data.num_workers)


def _checked(run: Run) -> Run:
    if not isinstance(run, Run):
        raise ConfigError(
            "expected the Run that fine_tune, fit_one_cycle or fit_flat_cos returned, "
            f"got {type(run).__name__}; fit first"
        )
    return run
