"""Files from strangers are data: no command runs code from a file that the user names."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from malice import KINDS, Intruder, bare_pickle, is_harmful

from mask_lightning.data.cache import PhotoCache
from mask_lightning.engine.checkpoint_files import CheckpointFiles
from mask_lightning.errors import CheckpointError, MaskLightningError, RunFolderError, WeightsError
from mask_lightning.inference.prediction_file import read_predictions
from mask_lightning.inference.trained import load_trained
from mask_lightning.models.weights_file import read_weights
from mask_lightning.optim.optimizers import check_optimizer
from mask_lightning.optim.schedules import make_schedule
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings

CPU = torch.device("cpu")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "intruded"


@pytest.fixture
def harmful(tmp_path: Path, mark: Path) -> Callable[..., Path]:
    """Write a file that creates `mark` when it is unpickled; checks first that this works."""

    def make(name: str, kind: Callable[[Path, Intruder], None] = bare_pickle) -> Path:
        assert is_harmful(mark), "the intruder is harmless; this test would prove nothing"
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind(path, Intruder(mark))
        return path

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint(harmful, mark: Path, kind) -> None:
    path = harmful("run/checkpoints/best.ckpt", kind)
    for named in (path, path.parent.parent):
        with pytest.raises(CheckpointError, match=f"^cannot read a checkpoint in {path}[^\n]*$"):
            load_trained(named, CPU)
    for weights_only in (True, False, None):  # whichever the Trainer uses to resume
        with pytest.raises(CheckpointError):
            CheckpointFiles().load_checkpoint(path, weights_only=weights_only)
    assert not mark.exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors", ".ckpt", ""])
def test_pretrained_weights(harmful, mark: Path, kind, suffix: str) -> None:
    path = harmful(f"weights{suffix}", kind)
    with pytest.raises(WeightsError, match=f"^cannot read weights from {path}[^\n]*$"):
        read_weights(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["https://example.org/weights.pth", "file:///tmp/weights.pth", "hf-hub:someone/model", "s3://bucket/w.pth"]
)
def test_weights_are_files_and_never_addresses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    with pytest.raises(WeightsError, match="found no file"):
        read_weights(Path(name))


@pytest.mark.parametrize("backbone", ["hf-hub:someone/model", "local-dir:.", "hf_hub:someone/model", "../model"])
def test_a_checkpoint_names_models_of_timm_alone(make_checkpoint, tmp_path: Path, backbone: str) -> None:
    content = torch.load(make_checkpoint(), weights_only=True)
    content["hyper_parameters"]["backbone"] = backbone
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="has no model"):
        load_trained(tmp_path / "other.ckpt", CPU)


@pytest.mark.parametrize("place", ["hyper_parameters", "network", "loss", "optim", "schedule", "transform"])
def test_a_target_in_a_checkpoint_is_not_called(make_checkpoint, tmp_path: Path, mark: Path, place: str) -> None:
    content = torch.load(make_checkpoint(), weights_only=True)
    options = content["hyper_parameters"]
    (options if place == "hyper_parameters" else options[place]).update(_target_="pathlib.Path.touch", self=str(mark))
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="is not a checkpoint that mask_lightning can rebuild"):
        load_trained(tmp_path / "other.ckpt", CPU)
    assert not mark.exists()


def sections(config: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = [sections(value, (*path, key)) for key, value in config.items() if isinstance(value, dict)]
    return [path, *(each for group in inner for each in group)]


def test_a_target_in_a_runs_config_is_refused(tmp_path: Path, mark: Path, compose_train) -> None:
    plain = compose_train().model_dump(mode="json")
    for path in sections(plain):
        config = yaml.safe_load(yaml.safe_dump(plain))
        section = config
        for key in path:
            section = section[key]
        section["_target_"] = "os.system"
        with pytest.raises(MaskLightningError, match="_target_"):
            use(config)


def use(config: dict[str, Any]) -> None:
    """The settings, and the code that gets the options they do not check."""
    settings = check(TrainSettings, config)
    check_optimizer(settings.optim)
    make_schedule(settings.schedule)


def test_yaml_that_would_make_objects_is_refused(tmp_path: Path, mark: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"seed: !!python/object/apply:pathlib.Path.touch ['{mark}']\n")
    with pytest.raises(RunFolderError, match="expected the config of a run"):
        RunFolder(tmp_path).read_config()
    assert not mark.exists()


def test_interpolations_in_a_runs_config_stay_text(tmp_path: Path, compose_train) -> None:
    plain = compose_train().model_dump(mode="json")
    plain["data"]["root"] = "${oc.env:HOME}"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    settings = check(TrainSettings, RunFolder(tmp_path).read_config())
    assert str(settings.data.root) == "${oc.env:HOME}"


def test_predictions(harmful, mark: Path, tmp_path: Path) -> None:
    with pytest.raises(MaskLightningError, match="is not a whole file of predictions"):
        read_predictions(harmful("predictions.parquet"))
    field = pa.field(
        "photo",
        pa.string(),
        metadata={  # what pyarrow once unpickled by itself (CVE-2023-47248)
            b"ARROW:extension:name": b"arrow.py_extension_type",
            b"ARROW:extension:metadata": pickle.dumps(Intruder(mark)),
        },
    )
    pq.write_table(pa.table([pa.array(["a"])], schema=pa.schema([field])), tmp_path / "extension.parquet")
    with pytest.raises(MaskLightningError, match="is not a whole file of predictions"):
        read_predictions(tmp_path / "extension.parquet")
    assert not mark.exists()


def test_a_photo_cache(tmp_path: Path, mark: Path) -> None:
    with (tmp_path / "cache.npy").open("wb") as stream:
        np.lib.format.write_array(stream, np.array([Intruder(mark)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        PhotoCache(tmp_path / "cache.npy")
    assert not mark.exists()
