"""Quantisation of an ONNX file: weights and activations become 8 bit integers."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mask_lightning.exporting.runtimes import INPUT, Images, require

LAYERS = ("Conv", "Gemm", "MatMul")  # operators with weights


def quantise(source: Path, target: Path, batches: Iterable[Images]) -> None:
    """Quantise an ONNX file statically with onnxruntime: QDQ format, a scale per channel of the weights.

    The ranges of the activations are their smallest and largest values for the calibration images. The last layer of
    each head and what follows stay float: 8 bit logits are too coarse, and 8 bit probabilities do not sum to 1.

    Source: Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only
    inference", arXiv:1712.05877; onnxruntime.quantization.

    Args:
        source: ONNX file with float weights.
        target: file to write.
        batches: calibration images uint8 (B, S, S, 3), prepared as for prediction.

    Raises:
        ExportError: onnxruntime is not installed.
    """
    require("onnxruntime")
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # a class without types
        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            images = next(self.batches, None)
            return None if images is None else {INPUT: images}

    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)  # it warns of options that it sets itself
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)  # folds batch normalisation
            quantization.quantize_static(
                str(prepared),
                str(target),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
                nodes_to_exclude=head_nodes(prepared),
            )
    finally:
        root.setLevel(level)


def head_nodes(path: Path) -> list[str]:
    """Return the names of the nodes from the last layer with weights of each output up to that output.

    Args:
        path: ONNX file whose nodes have names.

    Raises:
        ExportError: onnx is not installed.
    """
    graph = require("onnx").load(path).graph
    producers = {output: node for node in graph.node for output in node.output}
    waiting, found = [output.name for output in graph.output], dict[str, None]()
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or node.name in found:
            continue
        found[node.name] = None
        if node.op_type not in LAYERS:
            waiting += node.input
    return list(found)
