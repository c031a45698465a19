"""What every command shares: finding conf/, composing it, one-line errors with exit code 2, a quick --help.

Imports neither torch nor Lightning, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mask_lightning.errors import ConfigError, MaskLightningError, Terminated, did_you_mean, one_line
from mask_lightning.runs.folder import new_name
from mask_lightning.sweeps import records
from mask_lightning.sweeps.callback import SweepSummary

EXIT_BUG, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143
EXPECTED = (MaskLightningError, OmegaConfBaseException)  # what the user can mend


class ExitCode(int):
    """What a `main` returns to end its command with this exit code; in a multirun the largest counts."""


Main = Callable[[DictConfig], Any]

PLUGINS = {  # choice -> our extra that brings it
    ("hydra/sweeper", "optuna"): "optuna",
    ("hydra/launcher", "joblib"): "joblib",
    ("hydra/launcher", "submitit_slurm"): "slurm",
    ("hydra/launcher", "ray"): "ray",
}


def config_dir() -> Path:
    """conf/: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def _run_folder(parent: str, resume: str | None) -> str:
    """Folder of this run or sweep: the one to resume, or a new name that no other process picks."""
    return str(resume) if resume else f"{parent}/{_STAMP}"


_STAMP = new_name()


def _job_folder(sweep: str, number: int) -> str:
    """Folder of a sweep's job: its number, with -2, -3, ... where an earlier start has left a run there."""
    names = chain([str(number)], (f"{number}-{i}" for i in count(2)))
    return next(name for name in names if not (Path(sweep) / name / "result.json").exists())


# Cached with the config, so that a launcher's other processes find the same name.
OmegaConf.register_new_resolver("run_folder", _run_folder, replace=True, use_cache=True)
OmegaConf.register_new_resolver("job_folder", _job_folder, replace=True)


def open_door(config_name: str, main: Main) -> None:
    """Compose `conf/<config_name>.yaml` with the command line, run `main` on it, and exit.

    Exit codes: 0, or the ExitCode that `main` returns; 2 and one line on stderr for what the user can mend; 130 after
    Ctrl-C, and 143 where SIGTERM ended a training; 1 with a traceback for anything else, which is a bug. In a multirun
    mistakes and bugs do not stop the other jobs, and the traceback of each stands in the log of its job.
    """
    sys.exit(_exit_code(config_name, main))


@dataclass
class _Outcome:
    """What became of the jobs of this process, and by their records of those that a launcher ran in others."""

    started: bool = False
    failures: list[Exception] = field(default_factory=list)
    codes: list[int] = field(default_factory=lambda: [0])

    def exit_code(self) -> int:
        can_be_mended = [isinstance(error, EXPECTED) for error in self.failures] + SweepSummary.failures()
        if can_be_mended:
            return EXIT_USAGE if all(can_be_mended) else EXIT_BUG
        return max(self.codes)


def _exit_code(config_name: str, main: Main) -> int:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise what it would print over several lines
    SweepSummary.sweep = SweepSummary.launcher = None  # a door may be opened twice in one process
    outcome = _Outcome()
    job = _guarded(main, config_name, outcome)
    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=config_name)(job)()
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {explain(error, config_name)}", file=sys.stderr)
        SweepSummary.withdraw()
        return EXIT_USAGE
    except KeyboardInterrupt as stop:
        SweepSummary.report()
        return EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED
    except BrokenPipeError:  # `--help | head`: the reader has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if outcome.started:
            raise
        # Hydra could not make the output folder of the first job.
        print(
            f"error: cannot write to {error.filename} ({error.strerror}); set outputs to another folder",
            file=sys.stderr,
        )
        return EXIT_USAGE
    except Exception as error:
        if not outcome.started and SweepSummary.launcher is None:
            # Of composition: Hydra has no error of its own for all that can be typed.
            print(f"error: {explain(error, config_name)}", file=sys.stderr)
            return EXIT_USAGE
        if isinstance(error, ValueError) and outcome.failures:
            SweepSummary.report()  # Optuna gives up where no trial has a score; why, each job has told
            return outcome.exit_code()
        if SweepSummary.launcher is None:
            raise
        print(f"error: {SweepSummary.launcher} gave up ({_first_line(error)})", file=sys.stderr)
        SweepSummary.report()
        return EXIT_BUG
    return outcome.exit_code()


def _guarded(main: Main, config_name: str, outcome: _Outcome) -> Main:
    """`main` as Hydra calls it for each job: a failure is told here, since Hydra would end the whole sweep for it."""

    @functools.wraps(main)
    def job(config: DictConfig) -> Any:
        outcome.started = True
        try:
            with records.recorded():
                result = main(config)
            outcome.codes.extend([result] if isinstance(result, ExitCode) else [])
            return result
        except Exception as error:
            if not (isinstance(error, EXPECTED) or records.in_sweep()):
                raise
            outcome.failures.append(error)
            text = explain(error, config_name)
            print(f"error: {text}", file=sys.stderr)
            records.note_failure(error, text, can_be_mended=isinstance(error, EXPECTED))
            return None
        finally:
            _remove_if_empty(Path(HydraConfig.get().runtime.output_dir))

    return job


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def plain(config: DictConfig) -> dict[str, Any]:
    """The composed config as plain values, resolved: what settings are checked from."""
    values: Any = OmegaConf.to_container(config, resolve=True)
    return dict(values)


def compose(config_name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """`conf/<config_name>.yaml` with overrides as plain values, for callers that have no command line.

    Raises:
        ConfigError: what Hydra refuses, in one line.
    """
    try:
        return plain(_compose(config_name, overrides))
    except Exception as error:  # Hydra and OmegaConf have errors of their own, but not for all that can be typed
        raise ConfigError(explain(error, config_name)) from None


def _compose(config_name: str, overrides: Sequence[str] = ()) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra.compose(config_name, list(overrides))


def shorten(path: Path) -> Path:
    """The path from here, where it lies below: what people read and type again."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _remove_if_empty(folder: Path) -> None:
    """A job that never began leaves no folder; one that writes nothing works right here."""
    if folder.resolve() != Path.cwd():
        with contextlib.suppress(OSError):
            folder.rmdir()


def explain(error: Exception, config_name: str) -> str:
    """An error of ours as it is; one of Hydra or OmegaConf as one line that names what is near."""
    if isinstance(error, MaskLightningError):
        return str(error)
    if isinstance(error, OverrideParseException):
        reason, typed = one_line(str(error).splitlines()[0]), one_line(error.override)
        return f"cannot read {typed} ({reason}); write key=value, and key='\"value\"' around special signs"
    if isinstance(error, MissingConfigException) and error.options:
        return one_line(_unknown_choice(error))
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return one_line(f"{type(error).__name__}: {error}")
    text = str(error)
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        key = one_line(unknown[1].split("@")[0])
        return f"there is no option {key}; {did_you_mean(key, _known_options(config_name))}"
    return one_line("\n".join(text.splitlines()[:2]))


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file or "").rpartition("/")
    if (group, choice) in PLUGINS:
        return f"{group}={choice} needs a plugin; pip install 'mask_lightning[{PLUGINS[group, choice]}]'"
    choices = [option for option in error.options or () if not option.startswith("_")]
    return f"{group}={choice} is not one of the choices; {did_you_mean(choice, choices)}"


def _known_options(config_name: str) -> list[str]:
    """Every key of the config as it composes without overrides, dotted."""
    config = _compose(config_name)
    keys: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        for key in node:
            path = f"{prefix}{key}"
            keys.append(path)
            if OmegaConf.is_dict(node) and OmegaConf.is_dict(node._get_node(key)):
                walk(node._get_node(key), f"{path}.")

    walk(config, "")
    return keys
