"""The Python face: the few lines that a notebook types, on the same code, options and run folders as the commands.

    from mask_lightning.notebook import *

    data = load_data("faces", model="lite0")
    show_batch(data)
    module = build_module(data)
    found = lr_find(module, data, unfreeze="heads")
    run = fine_tune(module, data, epochs=3, lr=suggest(found).minimum)

Every function returns its object or a matplotlib Figure, which Jupyter shows where a cell ends with it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mask_lightning.callbacks.lr_suggestions import RangeTestResult, suggest
from mask_lightning.cli.command import compose
from mask_lightning.data.splits import draw_stratified
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ConfigError, NoSuggestionError
from mask_lightning.inference.forward import predict
from mask_lightning.inference.predictions import Predictions
from mask_lightning.inference.trained import choose_device, load_trained
from mask_lightning.optim.curves import check_range
from mask_lightning.optim.phases import Unfreeze
from mask_lightning.pipelines import find_lr as range_test_runs
from mask_lightning.pipelines import prepare as assembly
from mask_lightning.pipelines.fits import (
    Data,
    LearningRate,
    Run,
    check_epochs,
    fit,
    fit_one_phase,
    settings_of,
    with_sections,
)
from mask_lightning.reports import curves, lr_range
from mask_lightning.reports.results import plot_results
from mask_lightning.reports.run_report import plot_augmented
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings

__all__ = [
    "build_module",
    "fine_tune",
    "fit_flat_cos",
    "fit_one_cycle",
    "get_preds",
    "load_data",
    "lr_find",
    "plot_curves",
    "plot_lr_range",
    "show_batch",
    "show_results",
    "suggest",
]

CHATTER = (  # tips and rank messages for Lightning's developers, which conf/train.yaml keeps from the commands
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
    """Find the photos, split them by person, and prepare them for a network.

    Args:
        root: the folder of the photos; None draws portraits.
        overrides: any option of `python -m mask_lightning.train`, as typed there: "augment=randaugment_zoom",
            "data.limit_people=40", "optim=ranger". Phases and schedule are those of each fit.
        model: a file of conf/model, None: resnet34.
        task: "all", "mask", "gender" or "age"; None: all.
        backbone: any timm classifier in place of the model's, with the input that its weights were trained on.

    Raises:
        MaskLightningError: whatever is wrong with options or photos.
    """
    groups = [f"{group}={choice}" for group, choice in (("model", model), ("task", task)) if choice]
    swap = [f"model.backbone={backbone}", "model.image_size=null"] if backbone else []
    typed = (*groups, *swap, *overrides)
    for chatter in CHATTER:
        logging.getLogger(chatter).setLevel(logging.WARNING)
    config = compose("train", ["finetune=none", *typed])  # each fit has phases of its own
    if root is not None:
        config["data"]["root"] = str(root)  # not as an override: Hydra reads meaning into signs that a path may have
    settings = check(TrainSettings, config)
    spec = assembly.transform_spec(settings)
    return Data(settings, assembly.find_photos(settings), spec, typed)


def show_batch(data: Data) -> Figure:
    """Training photos as the network sees them, augmented, with their labels."""
    return plot_augmented(data.loaders, data.photos.space)


def build_module(data: Data, *, backbone: str | None = None) -> MultiTaskModule:
    """The network for these photos, with pretrained weights as `model.pretrained` says.

    Args:
        data: tells the tasks, the input and, unless named here, the backbone.
        backbone: another timm classifier of the same input.

    Raises:
        ConfigError: no such backbone, or one that wants its photos prepared in another way.
        WeightsError: insisted on weights that cannot be had.
    """
    settings = data.settings
    if backbone is not None:
        model = {**settings.model.model_dump(mode="json"), "backbone": backbone}
        settings = with_sections(settings, model=model)
        spec = assembly.transform_spec(settings)
        if spec != data.spec:
            raise ConfigError(
                f"{backbone} wants its photos as {spec}, but data gives them as {data.spec}; "
                f"load them for it: load_data(..., backbone={backbone!r})"
            )
    return assembly.build_pretrained_module(settings, data.photos, data.spec)


def lr_find(
    module: MultiTaskModule,
    data: Data,
    *,
    start_lr: float = 1e-7,
    end_lr: float = 10.0,
    num_steps: int = 100,
    unfreeze: Unfreeze = "all",
) -> RangeTestResult:
    """The loss while the lr rises exponentially; the module is afterwards as it was, bit for bit.

    Args:
        module, data: as in `fine_tune`.
        start_lr, end_lr: of the sweep.
        num_steps: optimizer steps, at least 10.
        unfreeze: what learns meanwhile, see `fit_one_cycle`: "heads" for the lr of `fine_tune`, which begins so.

    Raises:
        ConfigError: an argument out of range, or a module that does not fit the data.
        KeyboardInterrupt: after Ctrl-C.
    """
    schedule, phase = data.settings.schedule.model_dump(), {"epochs": data.settings.epochs, "unfreeze": unfreeze}
    settings = settings_of(module, data, lr=1.0, schedule=schedule, phases=[phase])
    sweep = {"start_lr": start_lr, "end_lr": end_lr, "num_steps": num_steps}
    return range_test_runs.sweep(with_sections(settings, range_test=sweep), data.usable, module)


def plot_lr_range(result: RangeTestResult) -> Figure:
    """The curve of `lr_find` and what it suggests (`suggest(result).minimum`, ...), or why it suggests nothing."""
    try:
        return lr_range.plot_lr_range(result, suggest(result), "minimum")
    except NoSuggestionError as error:
        figure = lr_range.plot_lr_range(result)
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
    """fastai's `fine_tune`: the heads alone, then everything at half the lr and less towards the image.

    Args:
        module: trained on from the weights that it has; afterwards it has those of the last epoch.
        data: what to train and to validate on.
        epochs: with everything open.
        lr: of the heads while they learn alone.
        freeze_epochs: before that, with the heads alone; their one-cycle rises for 99 % of the time.
        lr_mult: by how much the first layer group's lr is smaller than that of the heads, once everything is open.
        pct_start, div: of the second one-cycle.

    Raises:
        ConfigError: an argument out of range, or a module that does not fit the data.
        KeyboardInterrupt: after Ctrl-C or the stop button; the run goes on with `resume`.
    """
    check_epochs("epochs", epochs)
    check_epochs("freeze_epochs", freeze_epochs)
    check_range("lr", lr, "(0, 100]", "the layer groups' own lrs follow from lr_mult")
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
    """fastai's `fit_one_cycle`: lr up and down by cosines, momentum down and up.

    Args:
        module, data, epochs: as in `fine_tune`.
        lr: the largest; `slice(low, high)` from the first layer group to the heads; None: `optim.lr`.
        div, div_final, pct_start, moms: see `optim.schedules.one_cycle`.
        unfreeze: "all", "heads", {"last": n} or names of layer groups; all others are frozen.

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
    """fastai's `fit_flat_cos`: a constant lr for `pct_start` of the time, then a cosine down; arguments as above."""
    schedule = {"name": "flat_cosine", "div_final": div_final, "pct_start": pct_start}
    return fit_one_phase(module, data, epochs, lr, unfreeze, schedule)


def get_preds(run: Run) -> Predictions:
    """What the run's best network says about the held-out people (about training photos, where nobody is held out)."""
    return _predict(run, _judged(_checked(run).data)[0])


def show_results(run: Run, *, photos: int = 16) -> Figure:
    """Some held-out photos: the truth, and what the run's best network says; red where it is wrong."""
    rows, title = _judged(_checked(run).data)
    some = draw_stratified(rows, photos, strata=run.data.photos.space.names, seed=run.data.settings.seed)
    return plot_results(_predict(run, some), run.data.spec, title=f"{title}: truth above, prediction below")


def plot_curves(run: Run) -> Figure:
    """Loss and macro F1 over the epochs: augmented training, clean training, validation."""
    history = pd.read_csv(_checked(run).folder.metrics)
    return curves.plot_curves(history, run.phases, run.data.photos.space.names)


def _judged(data: Data) -> tuple[pd.DataFrame, str]:
    split = data.usable.split
    return (split.train, "training photos (nobody was held out)") if split.val.empty else (split.val, "held-out people")


def _predict(run: Run, rows: pd.DataFrame) -> Predictions:
    settings = run.data.settings
    trained = load_trained(run.folder.best, choose_device(settings.trainer.accelerator))
    return predict(trained, rows, num_workers=settings.data.num_workers)


def _checked(run: Run) -> Run:
    if not isinstance(run, Run):
        raise ConfigError(
            f"expected what fine_tune, fit_one_cycle or fit_flat_cos returned, got {type(run).__name__}; fit first"
        )
    return run
