"""The sweeper: which jobs it launches, and what it tells the study about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from mask_lightning.errors import ConfigError
from mask_lightning.settings.base import default_options
from mask_lightning.settings.multirun import SearchSettings
from mask_lightning.sweeps import studies
from mask_lightning.sweeps.search import OptunaSweeper

pytest.importorskip("optuna", reason="needs the extra `optuna`", exc_type=ImportError)


class Launcher:
    """Return the next score for each job; "pruned" prunes it, None fails it."""

    def __init__(self, scores: Sequence[Any], settings: SearchSettings) -> None:
        self.scores, self.settings, self.jobs = list(scores), settings, []

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        assert initial_job_idx == len(self.jobs)
        self.jobs.extend(jobs)
        return [SimpleNamespace(return_value=self.run(job)) for job in jobs]

    def run(self, job: Sequence[str]) -> float | None:
        score = self.scores.pop(0)
        if score != "pruned":
            return score
        number = int(next(each for each in job if each.startswith("hydra.sweeper.trial=")).partition("=")[2])
        trial = studies.StudyTrial(studies.optuna_trial(studies.open_study(self.settings), number), "val/f1")
        trial.report(1, 0.1)
        trial.describe(run=Path("run"), pruned=True)
        return 0.1


@pytest.fixture
def sweep(tmp_path: Path) -> Any:
    def sweep(scores: Sequence[Any], *arguments: str, **options: Any) -> tuple[Launcher, Any]:
        values = {"storage": str(tmp_path / "studies.journal"), "study_name": "mine", **options}
        sweeper = OptunaSweeper(**{**default_options(SearchSettings), **values})
        settings = SearchSettings(**values)
        launcher = Launcher(scores, settings)
        given = {"launcher": launcher, "context": SimpleNamespace(config_loader=None), "composed": OmegaConf.create()}
        vars(sweeper).update(given, folder=tmp_path / "sweep")
        sweeper.sweep(list(arguments))
        return launcher, studies.open_study(settings)

    return sweep


def test_a_study_ends_with_n_trials_and_is_resumed(sweep) -> None:
    launcher, study = sweep([0.3, "pruned", None, 0.4], "a=interval(0,1)", "b=7", n_trials=4, n_jobs=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE"]
    assert [trial.value for trial in study.trials] == [0.3, 0.1, None, 0.4]
    assert all(job[1] == "b=7" and job[0].startswith("a=") for job in launcher.jobs)
    launcher, study = sweep([0.5], "a=interval(0,1)", "b=7", n_trials=4, n_jobs=2)
    assert (len(launcher.jobs), studies.count_trials(study)) == (1, studies.TrialCounts(4, 0))


def test_trials_of_other_processes_count(sweep, tmp_path: Path) -> None:
    search = SearchSettings(storage=str(tmp_path / "studies.journal"), study_name="mine")
    study = studies.open_study(search)
    study.ask()
    assert len(sweep([0.1, 0.2], "a=1,2", n_trials=3)[0].jobs) == 2


def test_options_of_hydra_sweeper_params_are_searched(sweep) -> None:
    launcher, _ = sweep([0.1], n_trials=1, params={"a": "3,3"})
    assert launcher.jobs[0][0] == "a=3"


def test_a_search_without_several_values_is_refused(sweep) -> None:
    with pytest.raises(ConfigError, match="searches options with several values, found none"):
        sweep([], "a=1")
