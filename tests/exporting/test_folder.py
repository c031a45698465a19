"""The exported folder is read as written; a changed, missing or foreign file is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import ExportError
from mask_lightning.exporting.folder import Exported, is_export, read_folder, write_folder
from mask_lightning.labels import FACE
from mask_lightning.metrics.predictions import Source

SPEC = TransformSpec(crop_height=48, crop_width=32, size=32)
SOURCE = Source("run/best.ckpt", "ab" * 32, "test_resnet", FACE.names, SPEC.to_plain())
EXPORTED = Exported(
    "onnx", "float32", "single", "flip", {"age": 1.5}, (SOURCE,), FACE, SPEC, {"photo": [1.0]}, {"photos": 3}
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("about")
    write_folder(tmp_path, EXPORTED)
    return tmp_path


def edit_manifest(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return edit


def test_it_is_read_as_written_and_texts_may_be_edited(folder: Path) -> None:
    (folder / "README.md").write_text("Licence: MIT")
    assert is_export(folder)
    assert read_folder(folder) == EXPORTED
    assert json.loads((folder / "labels.json").read_text()) == FACE.to_plain()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"other"), r"SHA-256 .* of .*model\.onnx.*has changed"),
        (lambda folder: (folder / "labels.json").write_text("{}"), r"labels\.json.*has changed"),
        (lambda folder: (folder / "preprocessing.json").unlink(), r"expected preprocessing\.json in .*found none"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "found no readable manifest.json"),
        (lambda folder: (folder / "manifest.json").unlink(), "found no readable manifest.json"),
        (edit_manifest(lambda manifest: manifest.update(layout=2)), "expected layout 1 .*found 2"),
        (edit_manifest(lambda manifest: manifest.pop("sources")), "does not describe a whole model"),
        (edit_manifest(lambda manifest: manifest.update(format="exe")), "does not describe a whole model"),
        (edit_manifest(lambda manifest: manifest["files"].pop("model.onnx")), "no model.onnx"),
        (edit_manifest(lambda manifest: manifest["files"].update({"../x": "0"})), r"expected \.\./x in"),
    ],
)
def test_damage_is_refused(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(ExportError, match=message) as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)
