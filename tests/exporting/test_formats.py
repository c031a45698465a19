"""Every format gives the probabilities of the graph; what cannot be exported is one clear line."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting_members import SIZE, make_member
from torch import Tensor, nn

from mask_lightning.errors import ExportError
from mask_lightning.exporting.formats import check_packages, convert_to_openvino, trace, write_model, write_onnx
from mask_lightning.exporting.graph import ExportGraph
from mask_lightning.exporting.runtimes import open_model


class WithOperator(nn.Module):
    """An operator that ONNX lacks."""

    tasks = ("mask",)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"mask": torch.special.bessel_j0(images.float()).mean(dim=(1, 2))}


class WithBranch(nn.Module):
    """A branch that depends on the pixels."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"mask": images.float() if images.float().mean() > 100 else -images.float()}


def check(path: Path, photos, engine: str | None = None) -> None:
    model = open_model(path, engine=engine, threads=1)
    graph = ExportGraph([make_member(mask=2.0)], flip=True)
    for count in (1, len(photos)):
        found, want = model(photos[:count]), graph(torch.from_numpy(photos[:count]))
        assert list(found) == list(want)
        for task, values in want.items():
            np.testing.assert_allclose(found[task], values, atol=1e-5)


def test_onnx(onnx_file: Path, photos) -> None:
    check(onnx_file, photos)


def test_openvino_reads_onnx_and_its_own_format(onnx_file: Path, photos, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino, of the extra `export`")
    check(onnx_file, photos, engine="openvino")
    convert_to_openvino(onnx_file, tmp_path / "model.xml")
    check(tmp_path / "model.xml", photos)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_calls_from_several_threads(onnx_file: Path, photos, engine: str) -> None:
    pytest.importorskip("openvino" if engine == "openvino" else "onnxruntime", reason="needs the extra `export`")
    model = open_model(onnx_file, engine=engine)
    copy = model.side_by_side(3)
    assert copy is not None
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(copy, [np.roll(photos, i, axis=0) for i in range(9)]))
    for i, probs in enumerate(found):
        for task, want in model(np.roll(photos, i, axis=0)).items():
            np.testing.assert_allclose(probs[task], want, atol=1e-6)


CTRL_C_AFTER_OPENVINO = """
import signal, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from mask_lightning.exporting.runtimes import open_model
model = open_model(Path(sys.argv[1]), engine="openvino")
images = np.zeros((1, int(sys.argv[2]), int(sys.argv[2]), 3), np.uint8)
model(images)
copy = model.side_by_side(3)
with ThreadPoolExecutor(3) as pool:
    list(pool.map(copy, [images] * 9))
del model, copy
signal.raise_signal(signal.SIGINT)
"""


def test_ctrl_c_after_openvino_raises_as_usual(onnx_file: Path) -> None:
    """OpenVINO replaces the stack of signal handlers, and would free it with its last model."""
    pytest.importorskip("openvino", reason="needs openvino, of the extra `export`")
    command = [sys.executable, "-c", CTRL_C_AFTER_OPENVINO, str(onnx_file), str(SIZE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("format_name", ["torch_export", "safetensors"])
def test_torchs_formats(format_name, photos, tmp_path: Path) -> None:
    member = make_member(mask=2.0)
    member.network.to(memory_format=torch.channels_last)  # as trained networks are
    path = write_model(tmp_path, [member], format_name, size=SIZE, flip=True)
    check(path, photos)
    assert open_model(path).side_by_side(2) is None


def test_an_operator_that_onnx_lacks_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs onnxscript, of the extra `export`")
    with pytest.raises(ExportError, match=r"ONNX lacks the operator \w+\.bessel_j0\); use format="):
        write_onnx(trace(WithOperator(), SIZE), tmp_path / "model.onnx", ["mask"])


def test_a_network_that_cannot_be_traced() -> None:
    with pytest.raises(ExportError, match=r"torch\.export cannot trace this network") as caught:
        trace(WithBranch(), SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("format_name", "quantised", "missing", "extra"),
    [
        ("onnx", False, "onnxscript", "export"),
        ("openvino", False, "openvino", "export"),
        ("onnx", True, "onnxruntime", "export"),
    ],
)
def test_a_missing_package_names_its_extra(format_name, quantised, missing, extra, monkeypatch) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None if package == missing else sys)
    with pytest.raises(ExportError, match=rf"expected the package {missing}.*pip install 'mask_lightning\[{extra}\]'"):
        check_packages(format_name, quantised=quantised)


def test_safetensors_needs_no_extra(monkeypatch) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    check_packages("safetensors")
    check_packages("torch_export")
