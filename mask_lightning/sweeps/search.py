"""Hydra sweeper that lets Optuna choose the values of a multirun (Akiba et al. 2019, optuna.org)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from mask_lightning.errors import ConfigError
from mask_lightning.sweeps import studies

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

log = logging.getLogger(__name__)


class OptunaSweeper(Sweeper):
    """Run the trials of a study in batches of `n_jobs`, until the study has `n_trials` finished or pruned ones.

    The return value of a job is the score to maximise, None for a failed job. Several processes may work on one study;
    each counts the trials that run elsewhere, so that they do not run too many together.

    Args:
        **options: `SearchSettings`; validated when the sweep starts.
    """

    def __init__(self, **options: Any) -> None:
        self.options = OmegaConf.create(options)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Create the launcher."""
        self.context = hydra_context
        self.folder = Path(config.hydra.sweep.dir)
        self.composed = config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials.

        Raises:
            ConfigError: an override cannot be searched, or nothing is searched.
        """
        settings = studies.read_settings(self.options)
        params = [f"{name}={values}" for name, values in (settings.params or {}).items()]
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        fixed, space = studies.read_space(parser.parse_overrides([*params, *arguments]))
        if not space:
            raise ConfigError(
                "sweeper=optuna searches options with several values, found none; add one, such as "
                "'optim.lr=tag(log,interval(1e-4,1e-2))'"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.composed, self.folder / "multirun.yaml")
        study = studies.open_study(settings)
        started, budget = 0, settings.n_trials - studies.count_trials(study).ended
        with studies.owning_trials(self.folder / ".owners") as owner:
            while started < budget:
                counts = studies.count_trials(study)
                size = min(settings.n_jobs, budget - started, settings.n_trials - counts.ended - counts.running)
                if size <= 0:
                    break
                trials = [study.ask(space) for _ in range(size)]
                for trial in trials:
                    trial.set_user_attr(studies.OWNER, owner)
                jobs = [[*_overrides(trial), *fixed, *_identify(study, trial)] for trial in trials]
                returns = self.launcher.launch(jobs, initial_job_idx=started)
                _record(study, trials, returns)
                started += size


def _overrides(trial: Trial) -> list[str]:
    return [f"{name}={value}" for name, value in trial.params.items()]


def _identify(study: Study, trial: Trial) -> list[str]:
    """Return the overrides that tell a job, perhaps on another machine, which trial it is."""
    return [f"hydra.sweeper.study_name={study.study_name}", f"hydra.sweeper.trial={trial._trial_id}"]


def _record(study: Study, trials: Sequence[Trial], returns: Sequence[JobReturn]) -> None:
    """Tell the study how the trials ended; a job without a score, which has printed why, is a failed trial."""
    from optuna.trial import TrialState

    ended = {each.number: each.user_attrs for each in study.get_trials(deepcopy=False)}
    for trial, job in zip(trials, returns, strict=True):
        score = job.return_value
        if score is None or score != score:  # NaN
            study.tell(trial, state=TrialState.FAIL)
        elif ended[trial.number].get(studies.PRUNED):
            study.tell(trial, state=TrialState.PRUNED)  # its value is the last score that it reported
        else:
            study.tell(trial, float(score))
