"""Figures of an Optuna study."""

from __future__ import annotations

from pathlib import Path

import pytest

from mask_lightning.reports import study_plots
from mask_lightning.settings.multirun import SearchSettings
from mask_lightning.sweeps.studies import open_study

optuna = pytest.importorskip("optuna", reason="needs the extra `optuna`", exc_type=ImportError)


@pytest.mark.parametrize(
    ("values", "names"),
    [([], []), ([0.1], ["history"]), ([0.1, 0.1], ["history"]), ([0.1, 0.7], ["history", "importance", "parallel"])],
)
def test_figures_need_finished_trials(values: list[float], names: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(study_plots, "save_figure", lambda _, path: path.touch())
    search = SearchSettings(storage=f"{tmp_path}/studies.journal", study_name="mine")
    study = open_study(search)
    for value in values:
        study.enqueue_trial({"lr": value})
        study.tell(study.ask({"lr": optuna.distributions.FloatDistribution(0, 1)}), value)
    found = study_plots.save_study_plots(search, tmp_path)
    assert found == [f"study_{name}.png" for name in names] == sorted(path.name for path in tmp_path.glob("*.png"))
