"""Hydra launcher that runs the jobs of a multirun with Ray (Moritz et al. 2018, ray.io), on a machine or a cluster.

Hydra's own plugin for Ray needs cloudpickle < 3, which other dependencies exclude. This one uses Ray's core API. A job
whose machine or process dies is repeated on another machine, where it continues from its last checkpoint: all machines
need the same folders, such as a network disk, and the same versions of the packages.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from mask_lightning.errors import ConfigError, one_line
from mask_lightning.settings.base import check
from mask_lightning.settings.multirun import RaySettings
from mask_lightning.utils.system import JOBS, raise_on_sigterm

LAUNCHER = "hydra_plugins.mask_lightning_launcher.RayLauncher"
SECONDS_TO_SAVE = 60  # after Ctrl-C, for the jobs to end with a checkpoint
INTERRUPTED = "it was interrupted"


@dataclass(frozen=True)
class Sweep:
    """Common part of the jobs of a multirun.

    Attributes:
        context: of Hydra.
        config: composed config of the multirun.
        task: function that Hydra calls for each job.
        singletons: state of Hydra.
        folder: working directory.
        num_cpus: cores of each job.
    """

    context: HydraContext
    config: DictConfig
    task: TaskFunction
    singletons: dict[Any, Any]
    folder: str
    num_cpus: float


class RayLauncher(Launcher):
    """Run each job of a multirun as a task of Ray, and repeat those whose machine or process dies.

    Args:
        **options: `RaySettings`; validated before the multirun starts.
    """

    def __init__(self, **options: Any) -> None:
        self.options = OmegaConf.create(options)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Validate the options.

        Raises:
            ConfigError: an option is invalid, or Ray is not installed.
        """
        values: Any = OmegaConf.to_container(self.options, resolve=True)
        self.settings = check(RaySettings, values)
        import_ray()
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs, and return their results in order.

        Raises:
            ConfigError: there is no cluster at the address, or its machines lack this folder.
            RuntimeError: a job was ended too often; the others are done.
            KeyboardInterrupt: Ctrl-C or SIGTERM; the jobs have saved a checkpoint.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        settings, ray = self.settings, import_ray()
        with _connected(settings.address):
            sweep = Sweep(
                *(self.context, self.config, self.task, Singleton.get_state(), str(Path.cwd()), settings.num_cpus)
            )
            common = ray.put(sweep)
            task = ray.remote(
                max_retries=0,  # `collect` repeats, and tells why
                max_calls=1,  # a process per job, so that nothing of a job stays in memory
                num_cpus=settings.num_cpus,
                num_gpus=settings.num_gpus,
                scheduling_strategy="SPREAD",
            )(run_in_worker)
            jobs = dict(enumerate(map(list, job_overrides), initial_job_idx))
            print(f"Ray runs {len(jobs)} jobs on {_count_machines(ray)}", file=sys.stderr)
            retries = settings.max_retries
            return collect(lambda job: task.remote(common, job, jobs[job]), list(jobs), max_retries=retries)


def import_ray() -> Any:
    """Import Ray without its statistics about use.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # jobs print equal lines
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"launcher=ray needs Ray ({error}); pip install 'mask_lightning[ray]'") from None
    return ray


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster for the block, or start Ray on this machine; SIGTERM raises Terminated in the block."""
    ray = import_ray()
    local = {"include_dashboard": False, "object_store_memory": 100_000_000} if address is None else {}
    former = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", logging_level="ERROR", **local)
    except Exception as error:  # Ray raises bare exceptions, too, such as for a machine that is too slow to start it
        reason = one_line(str(error), most=200)
        if address is None:
            raise ConfigError(
                f"expected Ray to start on this machine, found an error ({reason}); repeat the command when it is "
                "less busy, or set launcher=joblib"
            ) from error
        raise ConfigError(
            f"expected a Ray cluster at hydra.launcher.address={address}, found none ({reason}); start one with "
            "`ray start --head`, or set it to null"
        ) from error
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Ray's handler would exit at once
        with raise_on_sigterm():
            yield
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, former or signal.SIG_DFL)


def _count_machines(ray: Any) -> str:
    machines = sum(bool(node["Alive"]) for node in ray.nodes())
    return f"{machines} machine{'s' * (machines > 1)} with {ray.cluster_resources().get('CPU', 0):g} CPUs"


def collect(submit: Callable[[int], Any], jobs: Sequence[int], *, max_retries: int) -> list[JobReturn]:
    """Submit all jobs, repeat those whose machine or process dies, and return the results in order.

    Args:
        submit: starts the job with this number as a task of Ray, and returns its reference.
        jobs: numbers of the jobs.
        max_retries: repetitions of each job.

    Raises:
        RuntimeError: a job was ended too often; the others are done.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    ray = import_ray()
    pending = {submit(job): job for job in jobs}
    results: dict[int, JobReturn] = {}
    ended: Counter[int] = Counter()
    try:
        while pending:
            (reference,), _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(reference)
            result = _result(ray, reference)
            if isinstance(result, JobReturn):
                results[job] = result
                continue
            ended[job] += 1
            if ended[job] <= max_retries:
                print(f"job {job} is repeated: {result}", file=sys.stderr)
                pending[submit(job)] = job
    except KeyboardInterrupt:
        for reference in pending:
            ray.cancel(reference)
        ray.wait(list(pending), num_returns=len(pending), timeout=SECONDS_TO_SAVE)
        raise
    lost = [str(job) for job in jobs if job not in results]
    if lost:
        raise RuntimeError(f"job {', '.join(lost)} was ended {max_retries + 1} times; repeat the command to continue")
    return [results[job] for job in jobs]


def _result(ray: Any, reference: Any) -> JobReturn | str:
    """Return the result of a task, or why it ended early; raises what it raised."""
    try:
        result: JobReturn | str = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:  # the machine or the process has died
        return one_line(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}", most=200)
    return result


def run_in_worker(sweep: Sweep, number: int, overrides: Sequence[str]) -> JobReturn | str:
    """Run a job in a process of Ray; return its result, or INTERRUPTED after SIGTERM or Ctrl-C.

    Args:
        sweep: what all jobs have in common.
        number: number of the job.
        overrides: overrides of the job.

    Raises:
        ConfigError: this machine lacks the folder of the multirun.
    """
    try:
        os.chdir(sweep.folder)
    except OSError as error:
        raise ConfigError(
            f"expected the folder {sweep.folder} on each machine of the Ray cluster, found none on "
            f"{socket.gethostname()} ({error.strerror}); start the command in a folder that all machines share"
        ) from None
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Ray's handler would exit before a checkpoint
    os.environ[JOBS] = str(max(1, int((os.cpu_count() or 1) // sweep.num_cpus)))
    setup_globals()
    Singleton.set_state(sweep.singletons)
    config = sweep.context.config_loader.load_sweep_config(sweep.config, list(overrides))
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = f"{config.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(config)
    try:
        return run_job(
            hydra_context=sweep.context,
            config=config,
            task_function=sweep.task,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    except KeyboardInterrupt:
        return INTERRUPTED
