"""Write a graph as a model file: ONNX, OpenVINO, a program of torch.export, or safetensors."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mask_lightning.errors import ExportError, one_line
from mask_lightning.exporting.graph import ExportGraph, Member
from mask_lightning.exporting.hub import write_weights
from mask_lightning.exporting.runtimes import INPUT, MODEL_FILES, openvino_core, require
from mask_lightning.settings.export import ExportFormat

TRACED_BATCH = 2  # torch.export takes a batch of 1 for a constant


def check_packages(format_name: ExportFormat, *, quantised: bool = False) -> None:
    """Raise ExportError, which names the extra, unless the packages that write the format are installed."""
    needed = {"onnx": ["onnxscript", "onnx"], "openvino": ["openvino", "onnxscript", "onnx"]}.get(format_name, [])
    for package in [*needed, *(["onnxruntime"] if quantised else [])]:
        require(package)


def write_model(
    folder: Path,
    members: Sequence[Member],
    format_name: ExportFormat,
    *,
    size: int,
    flip: bool,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write the graph of some networks in a format.

    Args:
        folder: existing folder.
        members: one, or the members of an ensemble.
        format_name: one of MODEL_FILES.
        size: S, side of the images in pixels.
        flip: also average over the mirror image.
        options: hyper-parameters of a single checkpoint, see `hub.write_weights`; safetensors only.

    Returns:
        Path of the model file; other files may lie beside it.

    Raises:
        ExportError: a package is not installed, or the network has an operator that the format lacks.
    """
    check_packages(format_name)
    path = folder / MODEL_FILES[format_name]
    if format_name == "safetensors":
        write_weights(path, members, flip=flip, options=options)
        return path
    # A copy, since torch.export saves tensors that are not contiguous twice; trained networks are channels_last.
    graph = copy.deepcopy(ExportGraph(members, flip=flip)).eval().to(memory_format=torch.contiguous_format)
    program = trace(graph, size)
    if format_name == "torch_export":
        torch.export.save(program, path)
    elif format_name == "onnx":
        write_onnx(program, path, graph.tasks)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            write_onnx(program, Path(temporary) / MODEL_FILES["onnx"], graph.tasks)
            convert_to_openvino(Path(temporary) / MODEL_FILES["onnx"], path)
    return path


def trace(graph: torch.nn.Module, size: int) -> torch.export.ExportedProgram:
    """Trace a graph for images (B, size, size, 3) with any B.

    Raises:
        ExportError: torch.export cannot trace the network.
    """
    images = torch.zeros(TRACED_BATCH, size, size, 3, dtype=torch.uint8, device="cpu")
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(graph, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # it raises errors of many internal types
        raise ExportError(
            f"torch.export cannot trace this network ({one_line(str(error), most=200)}); "
            "use format=safetensors, or another backbone"
        ) from error


def write_onnx(program: torch.export.ExportedProgram, path: Path, tasks: Sequence[str]) -> None:
    """Write a traced graph as ONNX, one file with the weights inside.

    Raises:
        ExportError: ONNX lacks an operator.
    """
    try:
        with _quiet():
            written = torch.onnx.export(
                program, dynamo=True, input_names=[INPUT], output_names=list(tasks), verbose=False, external_data=False
            )
    except Exception as error:
        raise ExportError(_missing_operator(error)) from error
    assert written is not None
    written.save(path, external_data=False)


def convert_to_openvino(source: Path, target: Path) -> None:
    """Convert an ONNX file to OpenVINO's format, `target` (.xml) and the weights beside it (.bin).

    Raises:
        ExportError: OpenVINO lacks an operator, or is not installed.
    """
    openvino = require("openvino")
    try:
        model = openvino_core().read_model(str(source))
    except RuntimeError as error:
        raise ExportError(
            f"OpenVINO cannot convert this network ({one_line(str(error), most=200)}); use format=onnx"
        ) from error
    openvino.save_model(model, str(target), compress_to_fp16=False)


def _missing_operator(error: BaseException) -> str:
    """Describe why a network cannot become ONNX; name the operator if that is the reason."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(str(cause))
        cause = cause.__cause__
    operator = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", " ".join(chain))
    reason = f"ONNX lacks the operator {operator[1]}" if operator else one_line(chain[-1], most=200)
    return f"this network cannot become ONNX ({reason}); use format=torch_export or safetensors"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's messages about its own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
