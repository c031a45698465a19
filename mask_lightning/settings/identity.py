"""Identity of a run: two runs with the same hash train the same network, given the same photos."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from mask_lightning.settings.train import TrainSettings

# These options, and all paths, change where and how fast a network is trained, not the network.
IGNORED = frozenset(
    {
        "inspect",
        "skip_done",
        "ensemble",
        "data.num_workers",
        "data.cache",
        "data.cache_gb",
        "data.device_augment",
        "checkpoint.keep",
        "checkpoint.every_minutes",
        "data.on_bad_photo",
        "data.follow_symlinks",
        "model.compile",
        "trainer.accelerator",
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.progress",
    }
)

# Options that were added later, and whose default means what earlier versions did: they count if they differ from it.
ADDED = frozenset(
    {
        "data.crop",
        "data.share_height",
        "data.share_width",
        "data.margin",
        "data.keep_aspect",
        "data.extra_weight",
        "allow_leak",
        "loss.distill_weight",
        "loss.distill_temperature",
        "augment.trivial",
        "augment.erase",
        "data.two_per_person",
        "finetune.probe",
        "loss.consistency",
        "loss.consistency_tasks",
        "model.keep_heads",
        "optim.library",
    }
)

# Paths whose files are part of the identity, since no fingerprint represents them; null as in earlier versions.
CONTENT = {"distill": "best.ckpt", "data.extra": "", "model.pretrained": "best.ckpt"}  # name of the files in a folder


def config_hash(settings: TrainSettings) -> str:
    """Return 16 hex digits computed from every option except paths, device and workers.

    The fingerprint of the photos represents what the paths lead to; the files of CONTENT are hashed here. A version
    that adds an option changes every hash, and such runs are trained again, unless the option is in ADDED.
    """
    text = json.dumps(identity(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return the options that are part of the identity, as nested plain values."""
    plain = settings.model_dump(mode="json")
    kept: dict[str, Any] = {}
    for name, value in settings:
        path = f"{prefix}{name}"
        if path in CONTENT:
            if isinstance(value, Path | list):
                kept[name] = _digest(value if isinstance(value, list) else [value], CONTENT[path])
            elif value is not None:
                kept[name] = str(value).lower()  # auto, true or false of model.pretrained
            continue
        if path in IGNORED or _is_path(settings, name):
            continue
        if path in ADDED and value == type(settings).model_fields[name].default:
            continue
        kept[name] = identity(value, f"{path}.") if isinstance(value, BaseModel) else plain[name]
    return kept


def _digest(places: Sequence[Path], name: str) -> str:
    """Hash the files, and the files of that name below folders; their order and places do not matter."""
    files = [file for place in places for file in (place.rglob(name) if place.is_dir() else [place])]
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:16]


def added_defaults() -> dict[str, Any]:
    """Return the defaults of the options in ADDED by dotted name: the values of runs that do not record them."""
    defaults: dict[str, Any] = {}
    for path in ADDED:
        section: Any = TrainSettings
        *parents, name = path.split(".")
        for parent in parents:
            section = section.model_fields[parent].annotation
        defaults[path] = section.model_fields[name].default
    return defaults


def flatten(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options by dotted name; a list of mappings is numbered, another list stays whole.

    Example:
        >>> flatten({"optim": {"lr": 0.1}, "phases": [{"epochs": 1}]})
        {'optim.lr': 0.1, 'phases.0.epochs': 1}
    """
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
            value = {str(i): entry for i, entry in enumerate(value)}
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _is_path(settings: BaseModel, name: str) -> bool:
    field = type(settings).model_fields.get(name)
    return field is not None and Path in (field.annotation, *get_args(field.annotation))
