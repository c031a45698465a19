"""Figures of an Optuna study, drawn by `optuna.visualization.matplotlib`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from mask_lightning.reports.figures import save_figure
from mask_lightning.settings.multirun import SearchSettings
from mask_lightning.sweeps.studies import open_study

PLOTS = {
    "history": "plot_optimization_history",
    "importance": "plot_param_importances",
    "parallel": "plot_parallel_coordinate",
}
MIN_TRIALS = 2  # finished trials; importance and parallel coordinates compare them


def save_study_plots(search: SearchSettings, folder: Path) -> list[str]:
    """Write study_history.png, study_importance.png and study_parallel.png of the whole study into `folder`.

    Importance is the share of the score's variance that an option explains (fANOVA, Hutter et al. 2014). It and the
    parallel coordinates need two finished trials with different values.

    Returns:
        Names of the written files.
    """
    study = open_study(search)
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    differ = len({tuple(sorted(trial.params.items())) for trial in finished}) >= MIN_TRIALS
    names = ["history", *(["importance", "parallel"] if differ else [])] if finished else []
    for name in names:
        _save(study, name, folder / f"study_{name}.png")
    return [f"study_{name}.png" for name in names]


def _save(study: Any, name: str, path: Path) -> None:
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    pyplot.switch_backend("agg")  # Optuna draws with pyplot, which would open a display
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's figures are experimental
        figure = getattr(plots, PLOTS[name])(study).figure
        figure.set_size_inches(9, 5)
        try:
            figure.tight_layout()
            save_figure(figure, path)
        finally:
            pyplot.close(figure)
