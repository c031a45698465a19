"""A stored Optuna study goes on: it keeps its name, counts the trials it has, and repeats the one that was cut off."""

from __future__ import annotations

import hashlib
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf, open_dict

from mask_lightning.errors import ConfigError
from mask_lightning.sweeps.printing import say

if TYPE_CHECKING:
    from optuna.study import Study

NEEDS = "pip install 'mask_lightning[optuna]'"


def is_configured(config: DictConfig) -> bool:
    """Whether Optuna chooses the jobs of this multirun."""
    return "optuna" in str(OmegaConf.select(config, "hydra.sweeper._target_"))


def prepare(config: DictConfig) -> None:
    """Before the sweeper starts: give the study a name, and let `n_trials` count those that earlier starts ended.

    The name, where none is set, follows from what was typed, so that the same command goes on with the same study. Only
    one process at a time may work on a study, as one cannot tell whether a trial is in work or was cut off.

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
            warnings.simplefilter("ignore")  # optuna 2's words about itself and about SQLAlchemy
            ended = _repeat_what_was_cut_off(_open(str(sweeper.storage), sweeper.study_name))
        if ended:
            say(f"study {sweeper.study_name}: {ended} of {sweeper.n_trials} trials are done")
        sweeper.n_trials = max(0, sweeper.n_trials - ended)


def name_study(overrides: list[str]) -> str:
    """A short name for what was typed, in whatever order."""
    return "study-" + hashlib.sha256("\n".join(sorted(overrides)).encode()).hexdigest()[:8]


def _open(storage: str, name: str) -> Study:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each of its plugins
    try:
        import optuna
        import sqlalchemy
    except ImportError as error:
        raise ConfigError(f"sweeper=optuna needs more packages ({error}); {NEEDS}") from None
    if int(sqlalchemy.__version__.split(".")[0]) >= 2 and optuna.__version__.startswith("2."):
        raise ConfigError(
            f"optuna {optuna.__version__} cannot store a study with SQLAlchemy {sqlalchemy.__version__}, expected one "
            f"below 2; {NEEDS}"
        )
    if storage.startswith("sqlite:///"):
        Path(storage.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


def _repeat_what_was_cut_off(study: Study) -> int:
    """Queue again the trials that never ended; returns how many did."""
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
    return sum(trial.state == TrialState.COMPLETE for trial in trials)
