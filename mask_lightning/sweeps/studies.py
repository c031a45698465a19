"""Optuna studies of a multirun: storage, search space, interrupted trials, and the trial of a job.

A study is shared by all processes and machines that use its storage. A process that runs trials holds the lock of a
file while it lives, and each of its trials names that file. A running trial without a holder was interrupted.
"""

from __future__ import annotations

import hashlib
import logging
import math
import secrets
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf, open_dict

from mask_lightning.errors import ConfigError
from mask_lightning.metrics.names import lower_is_better
from mask_lightning.settings.base import check
from mask_lightning.settings.multirun import SearchSettings
from mask_lightning.sweeps.records import in_sweep
from mask_lightning.utils.files import hold, is_held

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import Trial

SWEEPER = "hydra_plugins.mask_lightning_sweeper.OptunaSweeper"
INSTALL = "pip install 'mask_lightning[optuna]'"
ATTEMPTS = 3  # to open a database
OWNER, RUN, PRUNED = "owner", "run", "pruned"  # attributes of a trial: lock file of its process, run folder, end


def is_configured(config: DictConfig) -> bool:
    """Return True if Optuna chooses the jobs of this multirun."""
    return str(OmegaConf.select(config, "hydra.sweeper._target_")) == SWEEPER


def read_settings(sweeper: DictConfig) -> SearchSettings:
    """Validate `hydra.sweeper`. Raises ConfigError for the first mistake."""
    values: Any = OmegaConf.to_container(sweeper, resolve=True)
    return check(SearchSettings, {name: value for name, value in values.items() if name != "_target_"})


def prepare(config: DictConfig) -> SearchSettings:
    """Set the name of the study, and queue the trials again that earlier starts left; call before the sweeper.

    A missing name is derived from the overrides, so that the same command resumes the same study.

    Returns:
        The options of the search.

    Raises:
        ConfigError: an option is invalid, Optuna is not installed, or the storage cannot be used.
    """
    with open_dict(config):
        if config.hydra.sweeper.study_name is None:
            config.hydra.sweeper.study_name = name_study(list(config.hydra.overrides.task))
    settings = read_settings(config.hydra.sweeper)
    study = open_study(settings)
    repeated, ended = requeue_interrupted(study), count_trials(study).ended
    if ended or repeated:
        again = f", {repeated} interrupted ones are repeated" if repeated else ""
        print(f"study {study.study_name}: {ended} of {settings.n_trials} trials have ended{again}", file=sys.stderr)
    return settings


def name_study(overrides: list[str]) -> str:
    """Derive a short name from the overrides; their order does not matter."""
    return "study-" + hashlib.sha256("\n".join(sorted(overrides)).encode()).hexdigest()[:8]


def open_study(settings: SearchSettings) -> Study:
    """Open the study, or create it. The score is maximised.

    Raises:
        ConfigError: Optuna is not installed, or the storage cannot be used.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # alembic logs each of its plugins
    try:
        import optuna
        from optuna import pruners, samplers
    except ImportError as error:
        raise ConfigError(f"sweeper=optuna needs more packages ({error}); {INSTALL}") from None
    optuna.logging.set_verbosity(logging.WARNING)
    seed, factor, least = settings.seed, settings.reduction_factor, settings.min_epochs
    pruner: pruners.BasePruner = {
        "asha": lambda: pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=factor),
        "hyperband": lambda: pruners.HyperbandPruner(min_resource=least, reduction_factor=factor),
        "none": pruners.NopPruner,
    }[settings.pruner]()
    path = settings.storage.removeprefix("sqlite:///")
    try:
        if "://" not in path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # constant_liar: trials that run at once differ.
            tpe = settings.sampler == "tpe"
            sampler = samplers.TPESampler(seed=seed, constant_liar=True) if tpe else samplers.RandomSampler(seed)
            return optuna.create_study(
                storage=_open_storage(settings.storage),
                study_name=settings.study_name,
                direction="maximize",
                sampler=sampler,
                pruner=pruner,
                load_if_exists=True,
            )
    except Exception as error:  # of the database, its driver, or a file that is no journal
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ConfigError(
            f"expected a study storage at {settings.storage}, cannot use it ({reason}); set hydra.sweeper.storage to a "
            "journal file or the URL of a database"
        ) from error


def _open_storage(storage: str) -> BaseStorage:
    """Open a journal file or a database; the tables of a new one may just be created by another process."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if "://" not in storage:
        return JournalStorage(JournalFileBackend(storage))
    for attempt in range(ATTEMPTS):
        try:
            return RDBStorage(storage)
        except Exception:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.5)
    raise AssertionError


@dataclass(frozen=True)
class TrialCounts:
    """Numbers of trials of a study: ended (finished or pruned), and running in some process."""

    ended: int
    running: int


def count_trials(study: Study) -> TrialCounts:
    """Count the trials; failed ones do not count, as they have no score."""
    states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
    return TrialCounts(sum(state in ("COMPLETE", "PRUNED") for state in states), states.count("RUNNING"))


def requeue_interrupted(study: Study) -> int:
    """Queue the running trials again whose process has ended, and return their number.

    Trials of another machine are left alone if its lock file cannot be seen from here.
    """
    from optuna.trial import TrialState

    count = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, path = str(trial.user_attrs.get(OWNER, ":")).partition(":")
        elsewhere = host not in ("", socket.gethostname()) and not Path(path).exists()
        if elsewhere or (path and is_held(Path(path))):
            continue
        with suppress(ValueError, RuntimeError):  # another process has just queued it
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
            count += 1
    return count


@contextmanager
def owning_trials(folder: Path) -> Iterator[str]:
    """Hold a new lock file in `folder` for the block, and yield what trials of this process record as their owner."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / f"{socket.gethostname()}-{secrets.token_hex(4)}.lock"
    path.touch()
    try:
        with hold(path):
            yield f"{socket.gethostname()}:{path}"
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def read_space(overrides: Sequence[Override]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """Divide the overrides into fixed ones, as typed, and the search space.

    `a,b,c` and `choice(...)` become categories, `range` numbers with a step, `interval` numbers, and `tag(log, ...)`
    makes an interval logarithmic, `int(interval(1,9))` one of integers.

    Raises:
        ConfigError: an override cannot be searched.

    Example:
        >>> from hydra.core.override_parser.overrides_parser import OverridesParser
        >>> parse = OverridesParser.create().parse_overrides
        >>> read_space(parse(["model=lite0", "optim.lr=interval(0.1,0.2)"]))
        (['model=lite0'], {'optim.lr': FloatDistribution(high=0.2, log=False, low=0.1, step=None)})
    """
    fixed: dict[str, str] = {}
    space: dict[str, BaseDistribution] = {}
    for override in overrides:  # an option of the command line follows, and replaces, one of hydra.sweeper.params
        name = override.get_key_element()
        fixed.pop(name, None)
        space.pop(name, None)
        if override.is_sweep_override():
            space[name] = _distribution(override)
        else:
            fixed[name] = str(override.input_line)
    return list(fixed.values()), space


def _distribution(override: Override) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            log = "log" in value.tags
            if isinstance(value.start, int) and isinstance(value.end, int):
                return IntDistribution(value.start, value.end, log=log)
            return FloatDistribution(float(value.start or 0), float(value.end or 0), log=log)
        if isinstance(value, RangeSweep) and not value.shuffle:
            numbers = list(value.range())
            low, high, step = min(numbers), max(numbers), abs(value.step)
            if all(isinstance(each, int) for each in (value.start, value.stop, value.step)):
                return IntDistribution(int(low), int(high), step=int(step))
            return FloatDistribution(float(low), float(high), step=float(step))
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        raise ConfigError(f"cannot search {override.input_line} ({error}); correct its bounds") from error


def score_to_maximise(score: float, monitor: str) -> float:
    """Return what a study maximises: the score, negated if it is a loss."""
    return -score if lower_is_better(monitor) else score


@dataclass
class StudyTrial:
    """Trial of the current job.

    Attributes:
        trial: Optuna's trial.
        monitor: name of the score.
    """

    trial: Trial
    monitor: str
    _reported: set[int] = field(default_factory=set)

    def report(self, epoch: int, score: float) -> bool:
        """Report the score after an epoch (from 1), and return True if the pruner ends the trial."""
        if math.isnan(score) or epoch in self._reported:
            return False
        self._reported.add(epoch)
        self.trial.report(score_to_maximise(score, self.monitor), epoch)
        return bool(self.trial.should_prune())

    def describe(self, *, run: Path, pruned: bool) -> None:
        """Record the run folder, and how the run ended."""
        self.trial.set_user_attr(RUN, str(run))
        self.trial.set_user_attr(PRUNED, pruned)


def current_trial(monitor: str) -> StudyTrial | None:
    """Return the trial of the current job; None if Optuna did not choose it.

    Raises:
        ConfigError: the storage cannot be used.
    """
    if not in_sweep():
        return None
    sweeper = HydraConfig.get().sweeper
    if sweeper.get("_target_") != SWEEPER or sweeper.get("trial") is None:
        return None
    return StudyTrial(optuna_trial(open_study(read_settings(sweeper)), int(sweeper.trial)), monitor)


def optuna_trial(study: Study, trial_id: int) -> Trial:
    """Return a trial by its id in the storage."""
    from optuna.trial import Trial

    return Trial(study, trial_id)
