"""Resume a stored Optuna study: derive its name, count finished trials, and repeat interrupted ones."""

from __future__ import annotations

import hashlib
import logging
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf, open_dict

from mask_lightning.errors import ConfigError

if TYPE_CHECKING:
    from optuna.study import Study

INSTALL = "pip install 'mask_lightning[optuna]'"


def is_configured(config: DictConfig) -> bool:
    """Return True if Optuna chooses the jobs of this multirun."""
    return "optuna" in str(OmegaConf.select(config, "hydra.sweeper._target_"))


def prepare(config: DictConfig) -> None:
    """Set `study_name` and reduce `n_trials` by the trials that earlier starts finished; call before the sweeper.

    A missing name is derived from the overrides, so that the same command resumes the same study. Only one process may
    work on a study at a time, because running and interrupted trials look the same.

    Raises:
        ConfigError: the storage cannot be used.
    """
    sweeper = config.hydra.sweeper
    with open_dict(config):
        if sweeper.study_name is None:
            sweeper.study_name = name_study(list(config.hydra.overrides.task))
        if sweeper.storage is None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna 2: experimental features, and SQLAlchemy's deprecations
            ended = _requeue_interrupted_trials(_open_study(str(sweeper.storage), sweeper.study_name))
        if ended:
            print(f"study {sweeper.study_name}: {ended} of {sweeper.n_trials} trials are finished", file=sys.stderr)
        sweeper.n_trials = max(0, sweeper.n_trials - ended)


def name_study(overrides: list[str]) -> str:
    """Derive a short name from the overrides; their order does not matter."""
    return "study-" + hashlib.sha256("\n".join(sorted(overrides)).encode()).hexdigest()[:8]


def _open_study(storage: str, name: str) -> Study:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # alembic logs each of its plugins
    try:
        import optuna
        import sqlalchemy
    except ImportError as error:
        raise ConfigError(f"sweeper=optuna needs more packages ({error}); {INSTALL}") from None
    if int(sqlalchemy.__version__.split(".")[0]) >= 2 and optuna.__version__.startswith("2."):
        raise ConfigError(
            f"optuna {optuna.__version__} cannot store a study with SQLAlchemy {sqlalchemy.__version__}, expected one "
            f"below 2; {INSTALL}"
        )
    if storage.startswith("sqlite:///"):
        Path(storage.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


def _requeue_interrupted_trials(study: Study) -> int:
    """Queue interrupted trials again, and return the number of finished ones."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
    return sum(trial.state == TrialState.COMPLETE for trial in trials)
