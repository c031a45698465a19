"""Identity of a run: two runs with the same hash train the same network, given the same photos."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
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
        "data.device_augment",
        "checkpoint.keep",
        "checkpoint.every_minutes",
        "data.on_bad_photo",
        "data.follow_symlinks",
        "model.compile",
        "trainer.accelerator",
        "trainer.devices",
        "trainer.progress",
    }
)


def config_hash(settings: TrainSettings) -> str:
    """Return 16 hex digits computed from every option except paths, device and workers.

    The fingerprint of the photos represents what the paths lead to. A version that adds an option changes every hash:
    the effect of the option on a network is unknown, so such runs are trained again.
    """
    text = json.dumps(identity(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return the options that are part of the identity, as nested plain values."""
    plain = settings.model_dump(mode="json")
    kept: dict[str, Any] = {}
    for name, value in settings:
        path = f"{prefix}{name}"
        if path in IGNORED or _is_path(settings, name):
            continue
        kept[name] = identity(value, f"{path}.") if isinstance(value, BaseModel) else plain[name]
    return kept


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
