"""Every format gives the probabilities of the graph; what cannot be exported is one clear line."""

from __future__ import annotations

import sys
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


@pytest.mark.parametrize("format_name", ["torch_export", "safetensors"])
def test_torchs_formats(format_name, photos, tmp_path: Path) -> None:
    member = make_member(mask=2.0)
    member.network.to(memory_format=torch.channels_last)  # as trained networks are
    path = write_model(tmp_path, [member], format_name, size=SIZE, flip=True)
    check(path, photos)


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
