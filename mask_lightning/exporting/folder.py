"""The folder of an exported model: its files, their hashes, and reading it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mask_lightning import __version__
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import ExportError, MaskLightningError
from mask_lightning.exporting.runtimes import MODEL_FILES
from mask_lightning.labels import LabelSpace
from mask_lightning.metrics.predictions import Source
from mask_lightning.settings.export import ExportFormat, Precision
from mask_lightning.utils.files import find_path, sha256_of, write_json

MANIFEST, LABELS, PREPROCESSING = "manifest.json", "labels.json", "preprocessing.json"
EDITABLE = ("README.md", "example.py")  # for people: not part of the model, so they have no hash
LAYOUT = 1  # increase it when an older reader would misread the folder


@dataclass(frozen=True)
class Exported:
    """Description of an exported model, without the model itself.

    Attributes:
        format: of the model file.
        precision: float32 or int8.
        combine: single, soft (mean of the members' probabilities) or soup (mean weights).
        tta: test-time augmentation inside the graph: none or flip.
        temperatures: task -> temperature inside the graph.
        sources: checkpoints that were exported.
        space: tasks and classes.
        spec: how a photo becomes the graph's input.
        sizes: quantiles of the training photos, see `data.prepared.describe_sizes`.
        check: photos and largest difference of the comparison with PyTorch.
    """

    format: ExportFormat
    precision: Precision
    combine: str
    tta: str
    temperatures: Mapping[str, float]
    sources: tuple[Source, ...]
    space: LabelSpace
    spec: TransformSpec
    sizes: Mapping[str, Any] = field(default_factory=dict)
    check: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_file(self) -> str:
        """Name of the model file."""
        return MODEL_FILES[self.format]


def is_export(path: Path) -> bool:
    """Return True for the folder of an exported model."""
    return (find_path(path) / MANIFEST).is_file()


def write_folder(folder: Path, exported: Exported) -> None:
    """Write labels, preprocessing and, last, the manifest with the hashes of the files that are read."""
    write_json(folder / LABELS, exported.space.to_plain())
    write_json(folder / PREPROCESSING, exported.spec.to_plain())
    described = {name: value for name, value in vars(exported).items() if name not in ("space", "spec")}
    described["sources"] = [asdict(source) for source in exported.sources]
    hashes = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name not in (MANIFEST, *EDITABLE)}
    write_json(folder / MANIFEST, {"mask_lightning": __version__, "layout": LAYOUT, **described, "files": hashes})


def read_folder(folder: Path) -> Exported:
    """Read the description of an exported model, and check the hashes of all files.

    Raises:
        ExportError: a file is missing or has changed, or the folder is not an exported model.
    """
    folder = find_path(folder)
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        layout, files = manifest.pop("layout"), dict(manifest.pop("files"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"expected an exported model in {folder}, found no readable {MANIFEST} ({type(error).__name__}); "
            "export the model again"
        ) from error
    if layout != LAYOUT:
        raise ExportError(f"expected layout {LAYOUT} of {folder}, found {layout}; export again with this version")
    for name, expected in files.items():
        _check_hash(folder, name, expected)
    try:
        manifest.pop("mask_lightning")
        sources = tuple(Source(**{**each, "tasks": tuple(each["tasks"])}) for each in manifest.pop("sources"))
        space = LabelSpace.from_plain(json.loads((folder / LABELS).read_text()))
        spec = TransformSpec.from_plain(json.loads((folder / PREPROCESSING).read_text()))
        exported = Exported(**manifest, sources=sources, space=space, spec=spec)
        if exported.model_file not in files:
            raise ValueError(f"no {exported.model_file}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, MaskLightningError) as error:
        raise ExportError(
            f"{folder / MANIFEST} does not describe a whole model ({error}); export the model again"
        ) from error
    return exported


def _check_hash(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise ExportError(f"expected {name} in {folder}, found none; copy the whole folder, or export the model again")
    found = sha256_of(path)
    if found != expected:
        raise ExportError(
            f"expected the SHA-256 {expected[:12]}... of {path} as in {MANIFEST}, found {found[:12]}...: the file has "
            "changed; copy the folder again, or export the model again"
        )
