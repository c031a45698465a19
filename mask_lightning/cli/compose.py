"""Compose a command's options with Hydra from conf/ and the settings classes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from mask_lightning.cli.arguments import quote_paths
from mask_lightning.cli.explain import explain
from mask_lightning.errors import ConfigError
from mask_lightning.runs.folder import new_run_name
from mask_lightning.settings.base import Settings, default_options
from mask_lightning.settings.multirun import RaySettings, SearchSettings
from mask_lightning.sweeps.ray_jobs import LAUNCHER
from mask_lightning.sweeps.studies import SWEEPER


def config_dir() -> Path:
    """Return conf/: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def store_defaults(settings: type[Settings]) -> None:
    """Make the defaults of a settings class available to conf/ as `_options/<class name>`, and our Hydra plugins.

    Options and their defaults are thus declared once, in the settings class; conf/ holds named choices.
    """
    node, store = OmegaConf.create(default_options(settings)), ConfigStore.instance()
    store.store(name=settings.__name__, group="_options", node=node, package="_global_")
    store.store(name="optuna", group="hydra/sweeper", node={"_target_": SWEEPER, **default_options(SearchSettings)})
    store.store(name="ray", group="hydra/launcher", node={"_target_": LAUNCHER, **default_options(RaySettings)})


def compose(command: str, settings: type[Settings], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose `conf/<command>.yaml` with overrides into plain values, for callers without a command line.

    Args:
        command: name of the command, such as "train".
        settings: class that declares its options.
        overrides: Hydra overrides, such as "model=effb2".

    Raises:
        ConfigError: Hydra refuses an override; the message is one line.
    """
    store_defaults(settings)
    try:
        return to_plain(compose_config(command, quote_paths(overrides, settings)))
    except Exception as error:  # Hydra and OmegaConf raise errors of other types too
        raise ConfigError(explain(error, lambda: option_values(command))) from None


def compose_config(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose `conf/<command>.yaml` with overrides. Raises Hydra's and OmegaConf's own errors."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra.compose(command, list(overrides))


def to_plain(config: DictConfig) -> dict[str, Any]:
    """Return a composed config as resolved plain values, ready to be validated by a settings class."""
    values: Any = OmegaConf.to_container(config, resolve=True)
    return dict(values)


def option_values(command: str) -> dict[str, Any]:
    """Return every option that a command has without overrides, by its dotted name, with its value.

    The value of a section is None.
    """
    values: dict[str, Any] = {}

    def walk(node: dict[str, Any], prefix: str) -> None:
        for key, value in node.items():
            is_section = isinstance(value, dict) and bool(value)
            values[f"{prefix}{key}"] = None if is_section else value
            if is_section:
                walk(value, f"{prefix}{key}.")

    walk(to_plain(compose_config(command)), "")
    return values


def _run_folder(parent: str, resume: str | None) -> str:
    """Folder of this run or sweep: the one to resume, or a new name that no other process chooses."""
    return str(resume) if resume else f"{parent}/{_NEW_NAME}"


_NEW_NAME = new_run_name()


def _job_folder(sweep: str, number: int) -> str:
    """Folder of a sweep's job: its number, with -2, -3, ... if an earlier start left a run there."""
    names = chain([str(number)], (f"{number}-{i}" for i in count(2)))
    return next(name for name in names if not (Path(sweep) / name / "result.json").exists())


def _prediction_folder(new: str, *, _root_: DictConfig) -> str:
    """Folder of a prediction: of shards, always the same for the same options, so that a repeated command continues."""
    count = _root_.shards or (_root_.shard and str(_root_.shard).partition("/")[2])
    if not count:
        return new
    options = [str(_root_[name]) for name in ("ckpt", "data", "tta", "calibrated", "batch_size")]
    name = hashlib.sha256("\n".join([*options, str(count)]).encode()).hexdigest()[:8]
    return f"{_root_.outputs}/predictions/shards-{name}"


def _list_shards(count: int | None) -> str:
    """Values of `shard` in a multirun: 1/n to n/n; null without shards."""
    return ",".join(f"{i}/{count}" for i in range(1, count + 1)) if isinstance(count, int) and count > 0 else "null"


# Cached with the config, so that the processes of a launcher use the same name.
OmegaConf.register_new_resolver("run_folder", _run_folder, replace=True, use_cache=True)
OmegaConf.register_new_resolver("job_folder", _job_folder, replace=True)
OmegaConf.register_new_resolver("prediction_folder", _prediction_folder, replace=True)
OmegaConf.register_new_resolver("list_shards", _list_shards, replace=True)
OmegaConf.register_new_resolver("shard_folder", lambda shard, number: "." if shard else str(number), replace=True)
