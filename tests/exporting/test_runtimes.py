"""A model file that cannot be executed is one clear line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mask_lightning.errors import ExportError
from mask_lightning.exporting.runtimes import installed, open_model


@pytest.mark.parametrize(
    ("name", "engine", "message"),
    [
        ("model.onnx", "torch", "model.onnx runs with engine=onnx or openvino, found engine=torch"),
        ("model.xml", "onnx", "model.xml runs with engine=openvino, found engine=onnx"),
        ("model.pt2", "onnx", "model.pt2 runs with engine=torch"),
        ("model.safetensors", "openvino", "model.safetensors runs with engine=torch"),
    ],
)
def test_an_engine_that_does_not_run_the_format(name: str, engine: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        open_model(tmp_path / name, engine=engine)


@pytest.mark.parametrize(
    ("name", "package"), [("model.onnx", "onnxruntime"), ("model.xml", "openvino"), ("model.pt2", None)]
)
def test_a_damaged_file(name: str, package: str | None, tmp_path: Path) -> None:
    if package:
        pytest.importorskip(package)
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(ExportError, match=rf"cannot read .*{name}") as caught:
        open_model(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_runtime_that_is_not_installed(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExportError, match=r"pip install 'mask_lightning\[export\]'"):
        open_model(tmp_path / "model.xml")
    assert not installed("json", "no_such_package")
    assert installed("json")
