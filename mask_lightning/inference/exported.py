"""Predict with exported models, and with checkpoints that a faster runtime computes (option `engine`)."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from torch import Tensor
from torch.nn import functional as F

from mask_lightning.data.prepared import Quantiles
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import ConfigError, ExportError, one_line
from mask_lightning.exporting.folder import is_export, read_folder
from mask_lightning.exporting.formats import check_packages, write_model
from mask_lightning.exporting.graph import Member
from mask_lightning.exporting.runtimes import Images, Runtime, installed, open_model
from mask_lightning.faces.detector import require_detector
from mask_lightning.inference.trained import Trained, load_trained
from mask_lightning.labels import LabelSpace
from mask_lightning.metrics.predictions import Source
from mask_lightning.settings.export import Engine
from mask_lightning.utils.files import sha256_of, write_atomically

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # largest difference of a probability between a runtime and PyTorch
MANY_PHOTOS = 1_000  # engine=auto exports a network for at least so many photos: an export takes about 10 s
GRAPH = 1  # version of the cached graphs; increase it when `exporting.graph` changes


@dataclass(frozen=True)
class ExportedModel:
    """Model that a runtime computes on the CPU.

    Attributes:
        runtime: takes uint8 images, returns probabilities.
        space: the tasks that it predicts.
        spec: preprocessing of a photo.
        source: the model file, or the checkpoint that was exported.
        sizes: quantiles of the training photos.
        tta, temperatures: what the graph itself contains.
    """

    runtime: Runtime
    space: LabelSpace
    spec: TransformSpec
    source: Source
    sizes: Quantiles = field(default_factory=dict)
    tta: str = "none"
    temperatures: dict[str, float] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def side_by_side(self, calls: int) -> ExportedModel | None:
        """Return the model for so many threads that call it at once; None if its runtime cannot."""
        runtime = self.runtime.side_by_side(calls)
        return None if runtime is None else replace(self, runtime=runtime)

    def log_probs(self, images: Tensor) -> dict[str, Tensor]:
        """Return task -> log probabilities (B, C) before calibration, float32, from images uint8 (B, 3, S, S)."""
        probs = self.runtime(to_pixels(images))
        found: dict[str, Tensor] = {}
        for task in self.space.names:
            values = torch.from_numpy(np.log(np.maximum(probs[task], np.finfo(np.float32).tiny)))
            temperature = self.temperatures.get(task, 1.0)
            found[task] = values if temperature == 1.0 else F.log_softmax(values * temperature, dim=1)
        return found


Model = Trained | ExportedModel
"""A model that `inference.predict` runs."""


def to_pixels(images: Tensor) -> Images:
    """Convert images uint8 (B, 3, S, S) to an array (B, S, S, 3)."""
    pixels: Images = images.cpu().permute(0, 2, 3, 1).contiguous().numpy()
    return pixels


def load_model(path: Path, device: torch.device, *, engine: Engine = "auto") -> Model:
    """Load a checkpoint, or the folder of an exported model.

    Args:
        path: run folder, .ckpt file, or exported folder.
        device: of a checkpoint's network; exported models run on the CPU.
        engine: for an exported ONNX model: onnx, openvino, or auto, which is the runtime of its format. A checkpoint is
            loaded for torch; see `with_engine`.

    Raises:
        CheckpointError: as `load_trained`.
        ExportError: a file of the exported folder has changed, or its runtime is missing.
    """
    return load_exported(path, engine=engine) if is_export(path) else load_trained(path, device)


def load_exported(folder: Path, *, engine: Engine = "auto", threads: int | None = None) -> ExportedModel:
    """Load an exported model after checking its files.

    Raises:
        ExportError: a file has changed, the runtime is missing, or `engine` cannot run the format.
        DetectorError: it needs face detection, which is not installed.
    """
    exported = read_folder(folder)
    if exported.spec.crop == "face":
        require_detector()
    path = folder / exported.model_file
    runtime = open_model(path, engine=None if engine == "auto" else engine, threads=threads)
    source = Source(
        checkpoint=str(path),
        sha256=sha256_of(path),
        backbone=" + ".join(dict.fromkeys(each.backbone for each in exported.sources)),
        tasks=exported.space.names,
        transform=exported.spec.to_plain(),
    )
    return ExportedModel(
        runtime, exported.space, exported.spec, source, exported.sizes, exported.tta, dict(exported.temperatures)
    )


def from_pretrained(name: str | Path, *, revision: str | None = None) -> ExportedModel:
    """Load an exported model from a folder, or a published one from the Hugging Face hub (see `push`).

    Args:
        name: folder, or USER/NAME of a repository, which is downloaded into the hub's cache.
        revision: branch, tag or commit of the repository; None: the main branch.

    Raises:
        ExportError: there is neither such a folder nor such a repository, or a file has changed.
    """
    if Path(name).is_dir():
        return load_exported(Path(name))
    try:
        folder = snapshot_download(str(name), revision=revision)
    except Exception as error:  # the hub's client raises many types
        raise ExportError(
            f"expected a folder or a repository of the Hugging Face hub, found neither at {name} "
            f"({one_line(str(error), most=150)}); check the name and the connection"
        ) from error
    return load_exported(Path(folder))


def choose_engine(engine: Engine, device: torch.device, *, photos: int, cached: bool = False) -> Engine:
    """Choose torch, onnx or openvino for a checkpoint.

    Args:
        engine: `auto`: torch on a GPU, and for less than MANY_PHOTOS photos without a cached graph; else the fastest
            that is installed: openvino, onnx, torch.
        device: of the checkpoint's network.
        photos: number of photos to predict.
        cached: True if the exported graph exists.
    """
    if engine != "auto":
        return engine
    if device.type != "cpu" or (photos < MANY_PHOTOS and not cached):
        return "torch"
    runtimes: tuple[tuple[Engine, str], ...] = (("openvino", "openvino"), ("onnx", "onnxruntime"))
    can_export = cached or installed("onnx", "onnxscript")
    return next((name for name, package in runtimes if can_export and installed(package)), "torch")


def with_engine(model: Model, engine: Engine, *, cache: Path, photos: int) -> Model:
    """Let an engine compute a checkpoint's network; exported models are returned as they are.

    The network is exported as ONNX on first use. The file is named after the hash of the checkpoint and the versions of
    the exporting packages. Each time, the engine is compared with PyTorch on two images.

    Args:
        model: of `load_model`.
        engine: see `choose_engine`.
        cache: folder of the exported networks.
        photos: number of photos to predict.

    Raises:
        ExportError: the network cannot be exported, packages are missing, or the engine's probabilities differ.
        ConfigError: the engine runs on the CPU and the network is on a GPU.
    """
    if isinstance(model, ExportedModel):
        return model
    path = cache / _graph_name(model)
    chosen = choose_engine(engine, model.device, photos=photos, cached=path.is_file())
    if chosen == "torch":
        return model
    if model.device.type != "cpu":
        raise ConfigError(f"engine={chosen} runs on the CPU, found the network on {model.device}; set accelerator=cpu")
    if path.is_file():
        try:
            return _open(model, path, chosen)
        except ExportError as error:
            log.warning("%s: exported again", error)
    _write_graph(model, path)
    return _open(model, path, chosen)


def member_of(trained: Trained, temperatures: dict[str, float] | None = None) -> Member:
    """Return a checkpoint's network as part of an exported graph; the network must be on the CPU."""
    options = trained.module.hparams
    architecture = {
        "backbone": options["backbone"],
        "num_classes": {task.name: task.num_classes for task in trained.space.tasks},
        "options": dict(options["network"]),
    }
    spec = trained.spec
    return Member(trained.module.network, architecture, spec.mean, spec.std, temperatures or {})


def checkpoint_options(trained: Trained) -> dict[str, Any]:
    """Return the hyper-parameters of a checkpoint that `model.pretrained` needs to start from its heads."""
    return {name: trained.module.hparams[name] for name in ("backbone", "tasks", "network", "transform")}


def largest_difference(model: ExportedModel, trained: Trained) -> float:
    """Return the largest difference of a probability between a runtime and PyTorch on two images of noise."""
    shape = (2, 3, trained.spec.size, trained.spec.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, expected = model.log_probs(images), trained.log_probs(images.to(trained.device))
    return max(float((found[task].exp() - expected[task].exp()).abs().max()) for task in expected)


def _open(trained: Trained, path: Path, engine: Engine) -> ExportedModel:
    model = ExportedModel(open_model(path, engine=engine), trained.space, trained.spec, trained.source, trained.sizes)
    difference = largest_difference(model, trained)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"expected probabilities within {TOLERANCE} of PyTorch's from engine={engine}, found a difference of "
            f"{difference:.2g} with {path}; use engine=torch"
        )
    return model


def _graph_name(trained: Trained) -> str:
    """Name of the cached graph, different for other checkpoints and other versions of the exporter."""
    packages = [f"{name} {version(name)}" for name in ("torch", "onnx", "onnxscript") if installed(name)]
    key = hashlib.sha256(" ".join([trained.source.sha256, str(GRAPH), *packages]).encode()).hexdigest()
    return f"{key[:24]}.onnx"


def _write_graph(trained: Trained, path: Path) -> None:
    check_packages("onnx")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            written = write_model(Path(folder), [member_of(trained)], "onnx", size=trained.spec.size, flip=False)
            write_atomically(path, written.read_bytes())
    except OSError as error:
        raise ExportError(
            f"cannot write the exported network to {path.parent} ({error.strerror}); set outputs to another folder, or "
            "engine=torch"
        ) from error


def effective_tta(model: Model, tta: str) -> str:
    """Return the TTA of predictions, from the graph or the options. Raises ConfigError if both average versions."""
    inside = model.tta if isinstance(model, ExportedModel) else "none"
    if inside != "none" and tta != "none":
        raise ConfigError(f"{model.source.checkpoint} contains tta={inside}, found tta={tta}; remove the option tta")
    return tta if inside == "none" else inside
