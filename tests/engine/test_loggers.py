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
from PIL import Image
from tiny_runs import ONE_EPOCH, TINY_RUN, interrupt, settings_for

from mask_lightning.engine.loggers import (
    REMEDIES,
    build_logger,
    check_logger,
    closing_tracker,
    log_figures,
    tracker_errors_in_one_line,
    tracker_id,
)
from mask_lightning.engine.trackers import mlflow_name
from mask_lightning.errors import ConfigError
from mask_lightning.pipelines import train as runs
from mask_lightning.settings.train import TrainSettings
from mask_lightning.settings.trainer import LoggerSettings

WANDB_ID = "wandb_id.txt"  # in folders of released versions, too
OPTIONS = {"age": {"<30": 1, ">=60": 2}, "config": {"data": {"root": "/photos"}}}
SCORES = {"val/f1": 0.5, "val/age/bias/<30": -1.5}


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"needs the extra `{package}`")


needs_wandb, needs_mlflow, needs_trackio = (needs(package) for package in REMEDIES)
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow with SQLAlchemy 2.1


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
    one, other = tracker_id(tmp_path / "one", "wandb"), tracker_id(tmp_path / "other", "wandb")
    assert one != other
    assert tracker_id(tmp_path / "one", "wandb") == one == (tmp_path / "one" / WANDB_ID).read_text().strip()


@pytest.mark.parametrize("name", REMEDIES)
def test_a_missing_package_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"logger={name} needs a package .*pip install 'mask_lightning\[{name}\]'"):
        check_logger(LoggerSettings(name=name), tmp_path)


def test_other_loggers_need_no_check(tmp_path: Path) -> None:
    for name in ("tensorboard", "csv", "none"):
        check_logger(LoggerSettings(name=name), tmp_path)
    assert build_logger(LoggerSettings(name="none"), tmp_path, tmp_path) is False


@pytest.fixture
def figure(tmp_path: Path) -> Path:
    """Folder of a run with one figure, 8 x 4 pixels."""
    folder = tmp_path / "run"
    folder.mkdir()
    Image.new("RGB", (8, 4), (200, 10, 10)).save(folder / "curves.png")
    return folder


def test_tensorboard_shows_the_figures(figure: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = build_logger(LoggerSettings(), figure, figure)
    logger.log_metrics({"val/f1": 0.5}, 1)
    logger.finalize("success")  # as a fit ends, before the figures are drawn
    log_figures(logger, figure, step=7)
    events = EventAccumulator(str(figure / "tensorboard"))
    events.Reload()
    (shown,) = events.Images("figures/curves")
    assert (shown.step, shown.width, shown.height) == (7, 8, 4)


def test_a_tracker_that_refuses_figures_costs_a_warning(
    figure: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = build_logger(LoggerSettings(), figure, figure)
    monkeypatch.setattr(type(logger.experiment), "add_image", lambda *_, **__: 1 / 0)
    log_figures(logger, figure, step=0)
    assert "as the logger does not take them: division by zero" in caplog.text


@pytest.mark.parametrize(
    ("name", "accepted"),
    [("val/f1", "val/f1"), ("bias/<30", "bias/lt30"), ("bias/>=60", "bias/gteq60"), ("größe", "gruf6udfe")],
)
def test_mlflow_accepts_every_name(name: str, accepted: str) -> None:
    assert mlflow_name(name) == accepted


@pytest.fixture
def mlflow_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    check_logger(LoggerSettings(name="mlflow"), tmp_path / "outputs")
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{tmp_path / 'outputs' / 'mlflow.db'}")


@needs_mlflow
def test_mlflow_gets_options_metrics_and_figures_and_continues_a_run(figure: Path, mlflow_client) -> None:
    for step in (1, 2):  # the second time as after a resume
        logger = build_logger(LoggerSettings(name="mlflow", project="faces"), figure, figure.parent / "outputs")
        logger.log_hyperparams({**OPTIONS, "moved": step})
        logger.log_metrics(SCORES, step)
        assert mlflow_client.get_run(logger.run_id).info.status == "RUNNING"
        logger.finalize("success")
        log_figures(logger, figure, step=step)
    (experiment,) = mlflow_client.search_experiments(filter_string="name = 'faces'")
    (run,) = mlflow_client.search_runs([experiment.experiment_id])
    assert (figure / "mlflow_id.txt").read_text().strip() == run.info.run_id
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params == {"age/lt30": "1", "age/gteq60": "2", "config/data/root": "/photos", "moved": "1"}
    assert run.data.metrics == {"val/f1": 0.5, "val/age/bias/lt30": -1.5}
    assert [each.step for each in mlflow_client.get_metric_history(run.info.run_id, "val/f1")] == [1, 2]
    assert [each.path for each in mlflow_client.list_artifacts(run.info.run_id, "figures")] == ["figures/curves.png"]


@needs_mlflow
def test_a_store_that_mlflow_does_not_know_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://store")
    with pytest.raises(ConfigError, match=r"logger=mlflow failed \(.*set MLFLOW_TRACKING_URI to a server"):
        check_logger(LoggerSettings(name="mlflow"), tmp_path)


@needs_mlflow
@pytest.mark.slow
def test_resuming_continues_the_same_run_of_mlflow(
    compose, tmp_path: Path, mlflow_client, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = compose("finetune.epochs=2", "logger=mlflow", f"outputs={tmp_path / 'outputs'}")
    with monkeypatch.context() as patch:
        interrupt(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            runs.train_run(settings, tmp_path / "run")
    runs.resume_run(tmp_path / "run")
    (experiment,) = mlflow_client.search_experiments(filter_string="name = 'mask_lightning'")
    (run,) = mlflow_client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["config/finetune/epochs"] == "2"
    figures = {each.path for each in mlflow_client.list_artifacts(run.info.run_id, "figures")}
    assert {"figures/curves.png", "figures/confusion.png"} <= figures


@pytest.fixture(scope="module")
def trackio_store(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))  # read when it is imported
        for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
            patch.delenv(name, raising=False)
        yield importlib.import_module("trackio.sqlite_storage").SQLiteStorage


@needs_trackio
def test_trackio_gets_options_metrics_and_figures_and_continues_a_run(figure: Path, trackio_store) -> None:
    options = LoggerSettings(name="trackio", project="faces")
    check_logger(options, figure)
    for step in (1, 2):  # the second time as after a resume
        logger = build_logger(options, figure, figure)
        with closing_tracker(logger):
            logger.log_hyperparams(OPTIONS)
            logger.log_metrics(SCORES, step)
            logger.finalize("success")
            log_figures(logger, figure, step=step)
    (name,) = trackio_store.get_runs("faces")
    assert name == f"run-{(figure / 'trackio_id.txt').read_text().strip()}"
    assert trackio_store.get_run_config("faces", name)["age"] == OPTIONS["age"]
    rows = trackio_store.get_logs("faces", name)
    assert [(row["step"], row["val/age/bias/<30"]) for row in rows if "val/f1" in row] == [(1, -1.5), (2, -1.5)]
    shown = [row["figures/curves"] for row in rows if "figures/curves" in row]
    assert [each["_type"] for each in shown] == ["trackio.image", "trackio.image"]


@needs_trackio
@pytest.mark.slow
def test_resuming_continues_the_same_run_of_trackio(
    compose, tmp_path: Path, trackio_store, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = compose("finetune.epochs=2", "logger=trackio", "logger.project=resumed")
    with monkeypatch.context() as patch:
        interrupt(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            runs.train_run(settings, tmp_path / "run")
    runs.resume_run(tmp_path / "run")
    (name,) = trackio_store.get_runs("resumed")
    assert trackio_store.get_run_config("resumed", name)["config"]["finetune"]["epochs"] == 2
    rows = trackio_store.get_logs("resumed", name)
    assert [row["epoch"] for row in rows if "val/f1" in row] == [0, 1]
    assert {"figures/curves", "figures/confusion"} <= {key for row in rows for key in row}


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
        timeout=600,  # a process of its own loads everything, perhaps beside other work
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
        assert {folder.rpartition("-")[2] for folder in folders} == {tracker_id(tmp_path / name, "wandb")}


@needs_wandb
@pytest.mark.wandb
@pytest.mark.usefixtures("offline")
def test_wandb_shows_the_figures(figure: Path) -> None:
    logger = build_logger(LoggerSettings(name="wandb"), figure, figure)
    with closing_tracker(logger):
        log_figures(logger, figure, step=1)
    (shown,) = (figure / "wandb").glob("offline-run-*/files/media/images/figures/*.png")
    assert shown.name.startswith("curves_")


@needs_wandb
@pytest.mark.wandb
@pytest.mark.usefixtures("offline")
def test_a_run_of_the_user_stays_open(tmp_path: Path) -> None:
    import wandb

    own = wandb.init(project="mine", dir=tmp_path)
    try:
        with closing_tracker(None):
            pass
        assert wandb.run is own
    finally:
        wandb.finish()


@needs_wandb
def test_errors_of_wandb_are_one_line() -> None:
    from wandb.errors import CommError

    one_line = tracker_errors_in_one_line(LoggerSettings(name="wandb"))
    with pytest.raises(ConfigError, match=r"logger=wandb failed \(no network today\); log in"), one_line:
        raise CommError("no network\n today")
    one_line = tracker_errors_in_one_line(LoggerSettings(name="wandb"))
    with pytest.raises(ValueError, match="ours"), one_line:
        raise ValueError("ours")
