"""The example's pixels are those of the package; its answers follow in tests/pipelines/test_export.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask_lightning.data.prepared import read_prepared
from mask_lightning.data.transforms import TransformSpec, prepare_with_face
from mask_lightning.exporting.example import PARTS, example_script


@pytest.mark.parametrize(
    "spec",
    [
        TransformSpec(48, 32, size=32),
        TransformSpec(48, 32, size=32, keep_aspect=True),
        TransformSpec(200, 150, size=32),  # larger than the photo
        TransformSpec(None, None, size=32),
        TransformSpec(None, None, size=32, crop="share", share_height=0.7, share_width=0.55),
        TransformSpec(None, None, size=32, crop="share", share_height=0.5, keep_aspect=True),
        TransformSpec(None, None, size=32, crop="face"),
        TransformSpec(None, None, size=32, crop="face", share_height=0.6),
    ],
    ids=str,
)
def test_it_prepares_photos_as_the_package(spec: TransformSpec, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path, exif=exif)
    script = example_script("onnx", spec)
    names: dict = {}
    body = script[script.index("def prepare") : script.index("\n\n\nimages")]
    exec(f"import numpy as np\nfrom PIL import Image, ImageOps\n{body}", names)
    if spec.crop == "face":
        upright = Image.fromarray(np.rot90(pixels, -1).copy())
        want = prepare_with_face(upright, spec, None)
    else:
        want = read_prepared(path, [spec]).images[0]
    np.testing.assert_array_equal(np.asarray(names["prepare"](path)), np.asarray(want))
    assert ("aligns faces" in script) == (spec.crop == "face")


@pytest.mark.parametrize("format_name", PARTS)
def test_it_is_valid_python_of_about_20_lines(format_name) -> None:
    script = example_script(format_name, TransformSpec())
    compile(script, "example.py", "exec")
    assert len([line for line in script.splitlines() if line.strip()]) <= 25
    assert PARTS[format_name][0] in script.splitlines()[0]
