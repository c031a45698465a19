"""From a real, tiny training run to exported models, and to the folder that is published."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from sklearn.metrics import f1_score
from timm.data.config import resolve_model_data_config
from tiny_runs import ONE_EPOCH, TINY_RUN, settings_for, without_figures

from mask_lightning.data.prepared import read_prepared
from mask_lightning.errors import ConfigError, ExportError, MaskLightningError, RunFolderError
from mask_lightning.inference.exported import from_pretrained, load_exported
from mask_lightning.inference.prediction_file import read_predictions
from mask_lightning.inference.trained import load_trained
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.models.weights_file import load_weights, read_weights
from mask_lightning.pipelines import export, push
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.predict import predict_photos
from mask_lightning.settings.export import ExportSettings, PushSettings
from mask_lightning.settings.inference import PredictSettings
from mask_lightning.settings.train import TrainSettings

QUIET = ("num_workers=0", "progress=false")


@pytest.fixture(scope="module")
def run(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "run"
    options = *TINY_RUN, *ONE_EPOCH, f"data.root={competition}", f"outputs={folder.parent}"
    with without_figures():
        runs.train_run(settings_for("train", TrainSettings, *options), folder)
    return folder


def export_run(run: Path, folder: Path, *options: str) -> Path:
    settings = settings_for("export", ExportSettings, *QUIET, f"ckpt={run}", f"outputs={folder.parent}", *options)
    export.export_model(settings, folder)
    return folder


@pytest.fixture(scope="module")
def hub_folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "model"
    settings = settings_for("push", PushSettings, *QUIET, f"ckpt={run}", f"outputs={folder.parent}", "licence=mit")
    push.push_model(settings, folder)
    return folder


@pytest.fixture(scope="module")
def onnx_folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"needs {package}, of the extra `export`")
    return export_run(run, tmp_path_factory.mktemp("onnx") / "model")


@pytest.mark.parametrize("name", ["onnx_folder", "hub_folder"])
def test_an_exported_model_predicts_as_its_run(
    run: Path, competition: Path, tmp_path: Path, request: pytest.FixtureRequest, name: str
) -> None:
    folder = request.getfixturevalue(name)
    names = {path.name for path in folder.iterdir()}
    assert {"README.md", "example.py", "labels.json", "preprocessing.json", "manifest.json"} <= names
    assert json.loads((folder / "manifest.json").read_text())["check"]["largest_difference"] < 1e-4
    found = []
    for engine, ckpt in (("torch", run), ("exported", folder)):
        options = f"ckpt={ckpt}", f"data.root={competition}/train/images", "submission=false", f"outputs={tmp_path}"
        settings = settings_for("predict", PredictSettings, *QUIET, *options)
        predict_photos(settings, tmp_path / engine)
        found.append(read_predictions(tmp_path / engine / "predictions.parquet"))
    for task in found[0].space.names:
        np.testing.assert_allclose(found[1].probs[task], found[0].probs[task], atol=1e-4)
    want = f1_score(*score_of_held_out(folder, run), average="macro", labels=range(3), zero_division=0)
    assert f"| age | {want:.3f} [" in (folder / "README.md").read_text()


def score_of_held_out(folder: Path, run: Path) -> tuple[list[int], list[int]]:
    """True and predicted age bands of the photos that the run held out, by the exported model, one by one."""
    model = load_exported(folder)
    rows = export.find_held_out(run / "checkpoints" / "best.ckpt", [load_trained(run, torch.device("cpu"))], None)
    pixels = [np.asarray(read_prepared(path, [model.spec]).images[0]) for path in rows["path"]]
    probs = model.runtime(np.stack(pixels))["age"]
    return rows["age"].tolist(), probs.argmax(axis=1).tolist()


def test_the_example_runs_without_this_package(onnx_folder: Path, competition: Path) -> None:
    photo = next((competition / "train" / "images").rglob("mask1.*"))
    code = (
        "import sys, runpy; sys.modules['mask_lightning'] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(onnx_folder / "example.py"), str(photo)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    shown = json.loads(result.stdout.strip().removeprefix(str(photo)).replace("'", '"'))
    model = load_exported(onnx_folder)
    pixels = np.asarray(read_prepared(str(photo), [model.spec]).images[0])[None]
    for task, probs in model.runtime(pixels).items():
        np.testing.assert_allclose(list(shown[task].values()), probs[0], atol=1e-4)


@pytest.mark.slow
def test_int8_states_what_it_costs(
    run: Path, onnx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "CALIBRATION_PHOTOS", 16)
    folder = export_run(run, tmp_path / "model", "precision=int8")
    assert "int8 changes the macro F1 from" in (folder / "README.md").read_text()
    small, whole = ((each / "model.onnx").stat().st_size for each in (folder, onnx_folder))
    assert small < whole


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["ckpt=null"], "expected ckpt or runs, found neither"),
        (["runs=[a]"], "expected ckpt or runs, found both"),
        (["combine=soup"], "combine=soup is for runs"),
        (["precision=int8", "format=safetensors"], "precision=int8 is for format=onnx and openvino"),
        (["format=onx"], "format must be 'onnx', 'openvino', 'torch_export' or 'safetensors'"),
        (["score_photos=0"], "score_photos must be greater than or equal to 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settings_for("export", ExportSettings, "ckpt=x", *options)


def change_file(folder: Path) -> None:
    with (folder / "labels.json").open("a") as file:
        file.write(" ")


def remove_file(folder: Path) -> None:
    (folder / "heads.safetensors").unlink()


def remove_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (change_file, "labels.json .* the file has changed"),
        (remove_file, "expected heads.safetensors in .*, found none"),
        (remove_manifest, "expected an exported model in"),
    ],
)
def test_a_damaged_folder_is_refused(
    hub_folder: Path, tmp_path: Path, change: Callable[[Path], None], says: str
) -> None:
    shutil.copytree(hub_folder, tmp_path / "copy")
    change(tmp_path / "copy")
    with pytest.raises(ExportError, match=says):
        load_exported(tmp_path / "copy")


def test_nothing_is_overwritten_and_nothing_half_is_left(run: Path, hub_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="already exists and is not empty"):
        export_run(run, hub_folder, "format=safetensors")
    with pytest.raises(MaskLightningError):
        export_run(run.parent / "nowhere", tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert list(tmp_path.iterdir()) == []


def test_the_published_folder_describes_itself_to_the_hub(hub_folder: Path) -> None:
    _, head, text = (hub_folder / "README.md").read_text().split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["license"] == "mit"
    (index,) = metadata["model-index"]
    scores = {result["task"]["name"]: result["metrics"][0]["value"] for result in index["results"]}
    assert all(f"{value:.3f}" in text for value in scores.values())
    assert {"mask", "gender", "age", "joint"} <= set(scores)


def test_timm_loads_the_published_backbone(run: Path, hub_folder: Path) -> None:
    trained = load_trained(run, torch.device("cpu"))
    backbone = timm.create_model(f"local-dir:{hub_folder}", pretrained=True).eval()
    photos = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(backbone(photos), trained.module.network.sharing.backbone(photos))
    config = resolve_model_data_config(backbone)
    assert tuple(config["mean"]) == trained.spec.mean
    assert tuple(config["input_size"]) == (3, trained.spec.size, trained.spec.size)


def test_training_starts_from_the_published_folder_with_its_heads(run: Path, hub_folder: Path) -> None:
    trained = load_trained(run, torch.device("cpu"))
    options = trained.module.hparams
    network = MultiTaskNetwork(options["backbone"], {task: len(names) for task, names in options["tasks"].items()})
    loaded = load_weights(
        network, read_weights(hub_folder), backbone=options["backbone"], tasks=options["tasks"], heads={}
    )
    assert set(loaded.heads) == set(options["tasks"])
    for name, tensor in trained.module.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_what_is_uploaded(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []

    class Hub:
        def __init__(self, token: str) -> None:
            calls.append(("token", token))

        def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> None:
            calls.append(("create", (repo, private)))

        def upload_folder(self, *, repo_id: str, folder_path: Path, **_: Any) -> str:
            calls.append(("upload", sorted(path.name for path in folder_path.iterdir())))
            raise OSError("no connection")

    monkeypatch.setattr(push, "HfApi", Hub)
    monkeypatch.setattr(push, "get_token", lambda: "secret")
    settings = settings_for("push", PushSettings, *QUIET, f"ckpt={run}", f"outputs={tmp_path}", "repo=me/model")
    with pytest.raises(ExportError, match=r"cannot upload to me/model \(no connection\).* is complete"):
        push.push_model(settings, tmp_path / "model")
    assert calls[:2] == [("token", "secret"), ("create", ("me/model", True))]
    assert {"README.md", "config.json", "model.safetensors", "heads.safetensors"} <= set(calls[2][1])
    assert from_pretrained(tmp_path / "model").space.names == ("mask", "gender", "age")
    monkeypatch.setattr(push, "get_token", lambda: None)
    with pytest.raises(ExportError, match="needs a token"):
        push.push_model(settings, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_an_unknown_model_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ExportError, match="expected a folder or a repository") as error:
        from_pretrained("nobody/nothing")
    assert "\n" not in str(error.value)
