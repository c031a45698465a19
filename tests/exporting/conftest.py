"""Images, and the ONNX file of a network with every kind of head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from exporting_members import SIZE, make_member

from mask_lightning.exporting.formats import write_model


@pytest.fixture(scope="session")
def photos() -> npt.NDArray[np.uint8]:
    """Three images uint8 (3, S, S, 3)."""
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of `make_member(mask=2.0)` with flip."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"needs {package}, of the extra `export`")
    folder = tmp_path_factory.mktemp("onnx")
    return write_model(folder, [make_member(mask=2.0)], "onnx", size=SIZE, flip=True)
