"""Loggers of a run; Weights & Biases offline, without a key and after a resume."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
import pytest
from tiny_runs import ONE_EPOCH, TINY_RUN, interrupt, settings_for

from mask_lightning.engine.loggers import WANDB_ID, build_logger, check_logger, closing_wandb, wandb_id
from mask_lightning.errors import ConfigError
from mask_lightning.pipelines import train as runs
from mask_lightning.settings.train import TrainSettings
from mask_lightning.settings.trainer import LoggerSettings

WANDB = LoggerSettings(name="wandb")
needs_wandb = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="needs the extra `wandb`")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb-cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb-data"))


@pytest.fixture
def compose(competition: Path, tmp_path: Path) -> Callable[..., TrainSettings]:
    fixed = (*TINY_RUN, *ONE_EPOCH, "data.clean_train_photos=28", f"data.root={competition}", f"outputs={tmp_path}")
    return partial(settings_for, "train", TrainSettings, *fixed)


def test_a_folder_keeps_its_id(tmp_path: Path) -> None:
    one, other = wandb_id(tmp_path / "one"), wandb_id(tmp_path / "other")
    assert one != other
    assert wandb_id(tmp_path / "one") == one == (tmp_path / "one" / WANDB_ID).read_text().strip()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"logger=wandb needs a package .*pip install 'mask_lightning\[wandb\]'"):
        check_logger(WANDB)


def test_other_loggers_need_no_check(tmp_path: Path) -> None:
    for name in ("tensorboard", "csv", "none"):
        check_logger(LoggerSettings(name=name))
    assert build_logger(LoggerSettings(name="none"), tmp_path) is False


@needs_wandb
@pytest.mark.wandb
@pytest.mark.parametrize(
    ("key", "message"), [("", "failed (No API key configured"), ("short", "failed (WANDB_API_KEY invalid")]
)
def test_a_missing_or_wrong_key_is_one_line_and_leaves_no_folder(
    competition: Path, tmp_path: Path, key: str, message: str
) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    options = [*TINY_RUN, *ONE_EPOCH, f"data.root={competition}", "logger=wandb"]
    done = subprocess.run(
        [sys.executable, "-m", "mask_lightning.train", *options],
        cwd=tmp_path,
        env={
            **kept,
            "HOME": str(tmp_path),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "MPLCONFIGDIR": matplotlib.get_cachedir(),
        }
        | ({"WANDB_API_KEY": key} if key else {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert f"error: logger=wandb {message}" in done.stderr
    assert "WANDB_MODE=offline" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("outputs/runs/*"))


@needs_wandb
@pytest.mark.wandb
@pytest.mark.usefixtures("offline")
def test_resuming_continues_the_same_offline_run(compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = compose("finetune.epochs=2", "logger=wandb")
    with monkeypatch.context() as patch:
        interrupt(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            runs.train_run(settings, tmp_path / "run")
    kept = (tmp_path / "run" / WANDB_ID).read_text().strip()
    runs.resume_run(tmp_path / "run")
    runs.train_run(settings, tmp_path / "other")  # in the same process
    assert (tmp_path / "run" / WANDB_ID).read_text().strip() == kept
    for name, parts in (("run", 2), ("other", 1)):
        folders = [path.name for path in (tmp_path / name / "wandb").glob("offline-run-*")]
        assert len(folders) == parts
        assert {folder.rpartition("-")[2] for folder in folders} == {wandb_id(tmp_path / name)}


@needs_wandb
@pytest.mark.wandb
@pytest.mark.usefixtures("offline")
def test_a_run_of_the_user_stays_open(tmp_path: Path) -> None:
    import wandb

    own = wandb.init(project="mine", dir=tmp_path)
    try:
        with closing_wandb():
            pass
        assert wandb.run is own
    finally:
        wandb.finish()


@needs_wandb
def test_errors_of_wandb_are_one_line() -> None:
    from wandb.errors import CommError

    with pytest.raises(ConfigError, match=r"logger=wandb failed \(no network today\); log in"), closing_wandb():
        raise CommError("no network\n today")
    with pytest.raises(ValueError, match="ours"), closing_wandb():
        raise ValueError("ours")
