"""Resuming a stored Optuna study."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from mask_lightning.errors import ConfigError
from mask_lightning.sweeps import studies


@pytest.fixture
def optuna() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of optuna 2.10 about SQLAlchemy
        return pytest.importorskip("optuna", reason="needs the extra `optuna`", exc_type=ImportError)


@pytest.fixture
def stored(optuna: Any) -> Any:
    import sqlalchemy

    if optuna.__version__.startswith("2.") and sqlalchemy.__version__ >= "2":
        pytest.skip("optuna 2 cannot store a study with SQLAlchemy 2; install the extra `optuna`")
    return optuna


def config(storage: str | None, **options: Any) -> DictConfig:
    sweeper = {"_target_": "optuna", "storage": storage, "study_name": None, "n_trials": 5, **options}
    overrides = {"task": ["sweeper=optuna", "optim.lr=interval(0,1)"]}
    return OmegaConf.create({"hydra": {"sweeper": sweeper, "overrides": overrides}})


@pytest.mark.parametrize(("target", "want"), [("hydra_plugins.optuna.X", True), ("hydra.BasicSweeper", False)])
def test_optuna_is_detected(target: str, want: bool) -> None:
    assert studies.is_configured(OmegaConf.create({"hydra": {"sweeper": {"_target_": target}}})) == want


def test_the_name_is_derived_from_the_overrides() -> None:
    name = studies.name_study(["a=1", "b=interval(0,1)"])
    assert name == studies.name_study(["b=interval(0,1)", "a=1"]) != studies.name_study(["a=2", "b=interval(0,1)"])


def test_a_study_in_memory_needs_no_preparation() -> None:
    composed = config(None)
    studies.prepare(composed)
    assert composed.hydra.sweeper.n_trials == 5
    assert composed.hydra.sweeper.study_name.startswith("study-")


def test_an_interrupted_trial_is_queued_again(optuna: Any) -> None:
    study = optuna.create_study(direction="maximize")
    for state in ("COMPLETE", "FAIL"):
        trial = study.ask({"lr": optuna.distributions.UniformDistribution(0, 1)})
        study.tell(trial, 0.5 if state == "COMPLETE" else None, state=optuna.trial.TrialState[state])
    cut = study.ask({"lr": optuna.distributions.UniformDistribution(0, 1)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # enqueue_trial is experimental in optuna 2
        assert studies._requeue_interrupted_trials(study) == 1
    assert study.ask({"lr": optuna.distributions.UniformDistribution(0, 1)}).params == cut.params


def test_finished_trials_of_a_stored_study_count(stored: Any, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/new/studies.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        studies.prepare(config(storage, study_name="mine"))
        study = stored.load_study(study_name="mine", storage=storage)
        for _ in range(2):
            study.tell(study.ask(), 0.5)
        composed = config(storage, study_name="mine")
        studies.prepare(composed)
    assert composed.hydra.sweeper.n_trials == 3


def test_incompatible_versions_are_reported_in_one_line(optuna: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy

    monkeypatch.setattr(optuna, "__version__", "2.10.1")
    monkeypatch.setattr(sqlalchemy, "__version__", "2.1.9")
    with pytest.raises(ConfigError, match=r"cannot store a study with SQLAlchemy 2.1.9, expected one below 2; pip"):
        studies.prepare(config("sqlite:///studies.db"))
