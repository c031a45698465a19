"""Run a command: compose and validate its options, call its `main` for each job, and report errors in one line.

Imports neither torch nor Lightning, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mask_lightning.cli.arguments import FLAGS_MULTIRUN, order_flags, quote_paths
from mask_lightning.cli.compose import config_dir, option_values, store_defaults, to_plain
from mask_lightning.cli.explain import explain, first_line
from mask_lightning.cli.help import print_help
from mask_lightning.cli.hydra_callbacks import SweepSummary
from mask_lightning.errors import ConfigError, MaskLightningError, Terminated
from mask_lightning.settings.base import Settings, check
from mask_lightning.sweeps import records
from mask_lightning.utils.launch import Launch, find_launch
from mask_lightning.utils.system import JOBS

EXIT_BUG, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143
EXPECTED = (MaskLightningError, OmegaConfBaseException)  # errors that the user can correct


class ExitCode(int):
    """Return value of a `main` that ends its command with this exit code; in a multirun the largest counts."""


@dataclass(frozen=True)
class Job:
    """One job of a command: the whole command, or one of a multirun.

    Attributes:
        folder: output folder, relative to the working directory if it is below.
        overrides: options as typed.
        is_multirun: True if the command runs several jobs.
    """

    folder: Path
    overrides: tuple[str, ...] = ()
    is_multirun: bool = False


@dataclass(frozen=True)
class Ranks:
    """Work of the processes of a command that torchrun has started.

    Attributes:
        follow: called in the processes of rank 1 and above in place of the command; returns the exit code.
        dismiss: called in the process of rank 0 with the exit code of the command; ends the others.
    """

    follow: Callable[[], int]
    dismiss: Callable[[int], None]


S = TypeVar("S", bound=Settings)


def run_command(
    name: str, settings: type[S], main: Callable[[S, Job], Any], *, ranks: Callable[[], Ranks] | None = None
) -> NoReturn:
    """Compose `conf/<name>.yaml` with the command line, call `main` for each job, and exit.

    Exit codes: 0, or the ExitCode that `main` returns; 2 with one line on stderr for errors that the user can correct;
    130 after Ctrl-C and 143 after SIGTERM; 1 with a traceback for anything else, which is a bug. In a multirun an
    error does not stop the other jobs, and its traceback is in the log of its job.

    Args:
        name: of the command, and of its file in conf/.
        settings: class that declares and validates the options.
        main: receives the validated options and the job.
        ranks: returns what several processes of torchrun do; None if the command is one process.
    """
    outcome = _Outcome()
    with _taking_part(name, ranks, outcome):
        outcome.code = _answer_before_hydra(name, settings)
        if outcome.code is None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors instead of printing them over several lines
            SweepSummary.sweep = SweepSummary.launcher = None  # several commands may run in one process
            try:
                start = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=name)
                with lazy_help_accepted():
                    start(_make_job(name, settings, main, outcome))()
                outcome.code = outcome.code_of_jobs()
            except (Exception, KeyboardInterrupt) as error:
                outcome.code = _report_error(error, name, outcome)
    sys.exit(outcome.code)


@contextlib.contextmanager
def _taking_part(name: str, ranks: Callable[[], Ranks] | None, outcome: _Outcome) -> Iterator[None]:
    """Exit in processes of torchrun that do not run the command; that of rank 0 ends them after the block."""
    try:
        launch = find_launch()
    except ConfigError as error:
        _print_error(str(error))
        sys.exit(EXIT_USAGE)
    if launch is None:
        yield
        return
    if ranks is None:
        sys.exit(_refuse_torchrun(name, launch))
    if launch.rank:
        sys.exit(ranks().follow())
    try:
        yield
    except SystemExit as stop:
        outcome.code = stop.code if isinstance(stop.code, int) else None
        raise
    finally:
        ranks().dismiss(EXIT_BUG if outcome.code is None else outcome.code)


def _refuse_torchrun(name: str, launch: Launch) -> int:
    """Print that the command is one process, and return its exit code."""
    if launch.rank:
        time.sleep(10)  # torchrun ends this process once that of rank 0 has printed the error
    else:
        _print_error(
            f"{name} is one process, found {launch.processes} of torchrun; start python -m mask_lightning.{name} alone"
        )
    return EXIT_USAGE


def _answer_before_hydra(name: str, settings: type[Settings]) -> int | None:
    """Print the help if asked to, and write the arguments as Hydra reads them.

    Returns:
        Exit code of a command that ends here; None if it goes on.
    """
    store_defaults(settings)
    try:
        if print_help(name, settings, sys.argv[1:]):
            sys.stdout.flush()
            return 0
    except BrokenPipeError:  # such as --help=all | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again when it exits
        return 0
    try:
        arguments = order_flags(sys.argv[1:])
        is_multirun = not {*FLAGS_MULTIRUN, "hydra.mode=MULTIRUN"}.isdisjoint(arguments)
        sys.argv[1:] = quote_paths(arguments, settings, multirun=is_multirun)
    except ConfigError as error:
        _print_error(str(error))
        return EXIT_USAGE
    return None


@dataclass
class _Outcome:
    """Results of the jobs that ran in this process; records on disk tell about jobs of other processes.

    Attributes:
        code: exit code of the command; None before it is known.
        started: True once a job has started.
        failures: errors that ended jobs.
        codes: exit codes that jobs returned.
    """

    code: int | None = None
    started: bool = False
    failures: list[Exception] = field(default_factory=list)
    codes: list[int] = field(default_factory=lambda: [0])

    def code_of_jobs(self) -> int:
        is_user_error = [isinstance(error, EXPECTED) for error in self.failures] + SweepSummary.failures()
        if is_user_error:
            return EXIT_USAGE if all(is_user_error) else EXIT_BUG
        return max(self.codes)


def _report_error(error: Exception | KeyboardInterrupt, name: str, outcome: _Outcome) -> int:
    """Print what ended a command early in one line, and return its exit code; raises errors that are bugs."""
    if isinstance(error, KeyboardInterrupt):
        SweepSummary.report()
        return EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED
    if isinstance(error, BrokenPipeError):  # the reader of a pipe has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    from_hydra = isinstance(error, (HydraException, OmegaConfBaseException))  # some are OSErrors, too
    if isinstance(error, OSError) and not from_hydra:
        if outcome.started:
            raise error
        _print_error(f"cannot write to {error.filename} ({error.strerror}); set outputs to another folder")
        return EXIT_USAGE
    # Hydra composes some invalid options into errors of other types; the sweeper may refuse others.
    before_jobs = not outcome.started and (SweepSummary.launcher is None or isinstance(error, EXPECTED))
    if from_hydra or before_jobs:
        _print_error(explain(error, lambda: option_values(name)))
        SweepSummary.withdraw()
        return EXIT_USAGE
    if SweepSummary.launcher is None:
        raise error
    _print_error(f"{SweepSummary.launcher} gave up ({first_line(error)})")
    SweepSummary.report()
    return EXIT_BUG


def _make_job(
    name: str, settings: type[S], main: Callable[[S, Job], Any], outcome: _Outcome
) -> Callable[[DictConfig], Any]:
    """Return what Hydra calls for each job: validation, `main`, and errors that do not end the whole sweep."""

    def job(config: DictConfig) -> Any:
        outcome.started = True
        try:
            with records.record_job():
                options = _without_progress(to_plain(config)) if os.environ.get(JOBS) else to_plain(config)
                result = main(check(settings, options), _describe_job())  # check first: it names options
            outcome.codes.extend([result] if isinstance(result, ExitCode) else [])
            return result
        except Exception as error:
            if not (isinstance(error, EXPECTED) or records.in_sweep()):
                raise
            outcome.failures.append(error)
            text = explain(error, lambda: option_values(name))
            _print_error(text)
            records.record_failure(error, text, can_be_mended=isinstance(error, EXPECTED))
            return None
        finally:
            _remove_if_empty(Path(HydraConfig.get().runtime.output_dir))

    return job


def _without_progress(options: dict[str, Any]) -> dict[str, Any]:
    """Turn the progress bars off: those of several jobs would overwrite each other."""
    owner = options.get("trainer", options)
    if "progress" in owner:
        owner["progress"] = False
    return options


def _describe_job() -> Job:
    hydra_config = HydraConfig.get()
    return Job(
        folder=shorten(Path(hydra_config.runtime.output_dir)),
        overrides=tuple(hydra_config.overrides.task),
        is_multirun=hydra_config.mode == RunMode.MULTIRUN,
    )


@contextlib.contextmanager
def lazy_help_accepted() -> Iterator[None]:
    """Let argparse accept help that is not a string in the block, such as that of Hydra up to 1.3.6.

    Python 3.14 checks help when an argument is added (https://github.com/facebookresearch/hydra/issues/3121).
    """
    check_help = getattr(argparse.ArgumentParser, "_check_help", None)
    if check_help is None:
        yield
        return

    def check_text(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        if isinstance(action.help, str):
            check_help(parser, action)

    argparse.ArgumentParser._check_help = check_text  # type: ignore[attr-defined]
    try:
        yield
    finally:
        argparse.ArgumentParser._check_help = check_help  # type: ignore[attr-defined]


def _print_error(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)


def shorten(path: Path) -> Path:
    """Return the path relative to the working directory if it is below, as users read and type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _remove_if_empty(folder: Path) -> None:
    if folder.resolve() != Path.cwd():
        with contextlib.suppress(OSError):
            folder.rmdir()
