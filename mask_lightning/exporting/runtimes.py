"""Runtimes that execute model files; all take uint8 images and return probabilities per task.

torch is imported only by the runtimes that need it, so that the others stay as small as in a program without torch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from functools import cache, cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mask_lightning.errors import ExportError, one_line
from mask_lightning.settings.export import ExportFormat
from mask_lightning.utils.system import share_of_cores

Images = npt.NDArray[np.uint8]
Probs = dict[str, npt.NDArray[np.float32]]

INPUT = "images"  # name of the graph's input
MODEL_FILES: Mapping[ExportFormat, str] = {
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "torch_export": "model.pt2",
    "safetensors": "model.safetensors",
}
EXTRAS = {"onnx": "export", "onnxscript": "export", "onnxruntime": "export", "openvino": "export"}


class Runtime(Protocol):
    """An executable model.

    Attributes:
        name: torch, onnx or openvino.
    """

    name: str

    def __call__(self, images: Images) -> Probs:
        """Return task -> probabilities (B, C) from RGB images uint8 (B, S, S, 3)."""
        ...

    def side_by_side(self, calls: int) -> Runtime | None:
        """Return a runtime that so many threads may call at once, each on one core; None if this one cannot."""
        ...


def open_model(path: Path, *, engine: str | None = None, threads: int | None = None) -> Runtime:
    """Open a model file for execution on the CPU.

    Args:
        path: file with the suffix of its format, see MODEL_FILES.
        engine: onnx or openvino for an ONNX file; None: the runtime that belongs to the format.
        threads: of the runtime; None: one per core. torch keeps its own number.

    Raises:
        ExportError: the runtime is not installed, does not execute this format, or cannot read the file.
    """
    runtimes: dict[str, dict[str, Callable[[Path, int], Runtime]]] = {
        ".onnx": {"onnx": OnnxRuntime, "openvino": OpenVino},
        ".xml": {"openvino": OpenVino},
        ".pt2": {"torch": TorchExport},
        ".safetensors": {"torch": TorchEager},
    }
    able = runtimes[path.suffix]
    chosen = engine or next(iter(able))
    if chosen not in able:
        raise ExportError(f"{path.name} runs with engine={' or '.join(able)}, found engine={chosen}; change engine")
    with _errors_in_one_line(chosen, path):
        return able[chosen](path, threads or share_of_cores())


@contextmanager
def _errors_in_one_line(engine: str, path: Path) -> Iterator[None]:
    """Convert the errors of a runtime in the block, each of its own type, to an ExportError."""
    try:
        yield
    except (ExportError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise ExportError(
            f"{engine} cannot read {path} ({one_line(str(error), most=200)}); export the model again"
        ) from error


def require(package: str) -> Any:
    """Import an optional package. Raises ExportError, which names the extra, if it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ExportError(
            f"expected the package {package}, which is not installed ({error}); "
            f"pip install 'mask_lightning[{EXTRAS[package]}]'"
        ) from None


def openvino_core() -> Any:
    """Return the one Core of this process. Raises ExportError if OpenVINO is not installed.

    It stays alive, because with the last model OpenVINO would free the memory on which it makes this process handle
    signals, and the next Ctrl-C would end in a segmentation fault.
    """
    return _create_core(require("openvino"))


@cache
def _create_core(openvino: Any) -> Any:
    return openvino.Core()


def installed(*packages: str) -> bool:
    """Return True if all the packages can be imported, without importing them."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


class OnnxRuntime:
    """onnxruntime on the CPU; safe to call from several threads."""

    name = "onnx"

    def __init__(self, path: Path, threads: int) -> None:
        onnxruntime = require("onnxruntime")
        self._path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors only
        # Threads that wait actively would take the cores from the processes that decode photos.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._tasks = [output.name for output in self._session.get_outputs()]

    def __call__(self, images: Images) -> Probs:
        """Return task -> probabilities (B, C)."""
        return dict(zip(self._tasks, self._session.run(None, {INPUT: images}), strict=True))

    def side_by_side(self, _: int) -> OnnxRuntime:
        """Return a session in which each call has one thread."""
        return OnnxRuntime(self._path, threads=1)


class OpenVino:
    """OpenVINO on the CPU, for its own files and ONNX; safe to call from several threads.

    Args:
        path: model file.
        threads: of a call.
    """

    name = "openvino"

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads = path, threads
        self._model = openvino_core().read_model(str(path))
        self._tasks = [output.get_any_name() for output in self._model.outputs]

    @cached_property
    def _requests(self) -> SimpleQueue[Any]:
        """Compiled on first use: that takes as long as a hundred photos, and `side_by_side` compiles otherwise."""
        return self._compile(self._threads, streams=1)

    def _compile(self, threads: int, *, streams: int) -> SimpleQueue[Any]:
        """Compile for so many calls at once; return one request per call, since it executes one at a time."""
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            # Threads that are bound to cores would wait there for the threads that decode photos.
            "ENABLE_CPU_PINNING": streams == 1,
            "INFERENCE_PRECISION_HINT": "f32",  # the default is bfloat16 where the CPU has it, with errors of 0.01
        }
        requests = SimpleQueue[Any]()
        with _errors_in_one_line(self.name, self._path):
            compiled = openvino_core().compile_model(self._model, "CPU", options)
            for _ in range(streams):
                requests.put(compiled.create_infer_request())
        return requests

    def __call__(self, images: Images) -> Probs:
        """Return task -> probabilities (B, C)."""
        request = self._requests.get()
        try:
            return dict(zip(self._tasks, request.infer({INPUT: images}, share_inputs=True).to_tuple(), strict=True))
        finally:
            self._requests.put(request)

    def side_by_side(self, calls: int) -> OpenVino:
        """Return a model with one stream of one thread per call."""
        model = copy(self)
        model._requests = self._compile(calls, streams=calls)
        return model


class TorchExport:
    """A program of torch.export."""

    name = "torch"

    def __init__(self, path: Path, _: int) -> None:
        import torch

        self._torch = torch
        self._module = torch.export.load(path).module()

    def __call__(self, images: Images) -> Probs:
        """Return task -> probabilities (B, C)."""
        with self._torch.inference_mode():
            probs = self._module(self._torch.from_numpy(images))
        return {task: values.numpy() for task, values in probs.items()}

    def side_by_side(self, _: int) -> None:
        """Return None: torch has one pool of threads."""


class TorchEager:
    """The network itself, built again from architecture.json, with its weights from safetensors."""

    name = "torch"

    def __init__(self, path: Path, _: int) -> None:
        import torch

        from mask_lightning.exporting.hub import read_graph

        self._torch, self._graph = torch, read_graph(path)

    def __call__(self, images: Images) -> Probs:
        """Return task -> probabilities (B, C)."""
        with self._torch.inference_mode():
            probs = self._graph(self._torch.from_numpy(images))
        return {task: values.numpy() for task, values in probs.items()}

    def side_by_side(self, _: int) -> None:
        """Return None: torch has one pool of threads."""
