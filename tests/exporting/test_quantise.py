"""An 8 bit model is smaller and answers about the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mask_lightning.exporting.quantise import quantise
from mask_lightning.exporting.runtimes import open_model


def test_quantised_weights_are_small_and_nearly_right(onnx_file: Path, photos, tmp_path: Path) -> None:
    quantise(onnx_file, tmp_path / "int8.onnx", [photos[:2], photos[2:]])
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * onnx_file.stat().st_size
    before, after = (open_model(path, threads=1)(photos) for path in (onnx_file, tmp_path / "int8.onnx"))
    for task, values in before.items():
        assert 0 < np.abs(values - after[task]).max() < 0.15
        np.testing.assert_allclose(after[task].sum(axis=1), 1, atol=1e-5)
