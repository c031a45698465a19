"""A short script that predicts with an exported model, without this package if its format allows it."""

from __future__ import annotations

from mask_lightning.data.transforms import TransformSpec
from mask_lightning.exporting.runtimes import INPUT, MODEL_FILES
from mask_lightning.settings.export import ExportFormat

SCRIPT = '''"""Predict photos of faces: python example.py PHOTO ...   ({needs})"""
import json
import sys
from pathlib import Path

import numpy as np
{imports}
from PIL import Image, ImageOps

FOLDER = Path(__file__).parent
LABELS = json.loads((FOLDER / "labels.json").read_text())
{load}


def prepare(path):{note}
    photo = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    {crop}
    down, across = max(height - photo.height, 0), max(width - photo.width, 0)
    margins = (down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0)
    photo = Image.fromarray(np.pad(np.asarray(photo), margins, "symmetric"))
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    return photo.crop((left, top, left + width, top + height)).resize(({size}, {size}), Image.Resampling.BILINEAR)


images = np.stack([np.asarray(prepare(path)) for path in sys.argv[1:]])  # uint8 (B, {size}, {size}, 3)
{run}
for i, path in enumerate(sys.argv[1:]):
    print(path, {{task: dict(zip(LABELS[task], probs[task][i].tolist())) for task in LABELS}})
'''

FACE_NOTE = (
    "  # expects an upright face that fills the photo; mask_lightning.faces detects and aligns faces in other photos"
)

# Per format: packages, their imports, and how the model is loaded and run.
PARTS: dict[ExportFormat, tuple[str, str, str, str]] = {
    "onnx": (
        "onnxruntime",
        "import onnxruntime",
        'MODEL = onnxruntime.InferenceSession(FOLDER / "{file}")',
        'probs = dict(zip([each.name for each in MODEL.get_outputs()], MODEL.run(None, {{"{input}": images}})))',
    ),
    "openvino": (
        "openvino",
        "import openvino",
        'MODEL = openvino.Core().compile_model(FOLDER / "{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})',
        'probs = {{output.get_any_name(): values for output, values in MODEL({{"{input}": images}}).items()}}',
    ),
    "torch_export": (
        "torch",
        "import torch",
        'MODEL = torch.export.load(FOLDER / "{file}").module()',
        "probs = {{task: values.detach() for task, values in MODEL(torch.from_numpy(images)).items()}}",
    ),
    "safetensors": (
        "mask_lightning",
        "from mask_lightning.exporting.runtimes import open_model",
        'MODEL = open_model(FOLDER / "{file}")',
        "probs = MODEL(images)",
    ),
}


def example_script(format_name: ExportFormat, spec: TransformSpec) -> str:
    """Return the source of example.py for a model of this format and preprocessing."""
    package, imports, load, run = PARTS[format_name]
    names = {"file": MODEL_FILES[format_name], "input": INPUT}
    return SCRIPT.format(
        needs=f"needs numpy, pillow and {package}",
        imports=imports,
        load=load.format(**names),
        run=run.format(**names),
        note=FACE_NOTE if spec.crop == "face" else "",
        crop=_crop_line(spec),
        size=spec.size,
    )


def _crop_line(spec: TransformSpec) -> str:
    """Return the assignment of height and width of the crop, as `data.transforms.middle_size` computes them."""
    side = "min(photo.size)"
    shares = spec.share_height, spec.share_width
    if spec.crop == "centre":
        height, width = (str(each) if each else side for each in (spec.crop_height, spec.crop_width))
    elif spec.crop == "face" and shares == (None, None):
        height = width = side
    else:
        height, width = (
            f"max(round(photo.{name} * {share or 1}), 1)"
            for name, share in zip(("height", "width"), shares, strict=True)
        )
    if spec.keep_aspect or spec.crop == "face":
        height = width = height if height == width else f"max({height}, {width})"
    return f"height, width = {height}, {width}"
