"""Hugging Face's layout: weights that timm loads by name, and the heads beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mask_lightning.exporting.graph import ExportGraph, Member
from mask_lightning.models.sharing import HardSharing
from mask_lightning.models.weights_file import HEADS_FILE, METADATA
from mask_lightning.utils.files import write_json

ARCHITECTURE_FILE = "architecture.json"  # beside the weights
TIMM_FILE = "config.json"  # read by timm.create_model("hf-hub:USER/NAME")
BACKBONE = "networks.0.sharing.backbone."  # names of the backbone's tensors in a graph of one network


def write_weights(
    path: Path, members: Sequence[Member], *, flip: bool, options: Mapping[str, Any] | None = None
) -> None:
    """Write the weights of networks as safetensors, and what is needed to build them again.

    One network with hard sharing is divided: the file at `path` has the backbone under timm's names, so that timm loads
    it, and `heads.safetensors` the rest. Other networks are in the file at `path` as a whole.

    Args:
        path: model.safetensors in an existing folder; the other files are written beside it.
        members: one, or the members of an ensemble.
        flip: average over the mirror image when predicting.
        options: hyper-parameters of the checkpoint (backbone, tasks, network, transform) that `model.pretrained` needs
            to load the heads; None: it loads the backbone only.
    """
    graph = ExportGraph(members, flip=flip).eval()
    state = {name: value.contiguous().clone() for name, value in graph.state_dict().items()}
    divided = len(members) == 1 and isinstance(members[0].network.sharing, HardSharing)
    metadata = {"format": "pt"}
    if divided:
        own = {name.removeprefix("networks.0."): state.pop(name) for name in list(state) if BACKBONE not in name}
        state = {name.removeprefix(BACKBONE): value for name, value in state.items()}
        described = {METADATA: json.dumps(options)} if options else {}
        save_file(own, path.with_name(HEADS_FILE), metadata=metadata | described)
        write_json(path.with_name(TIMM_FILE), _timm_config(members[0]))
    save_file(state, path, metadata=metadata)
    plain = [each.to_plain() for each in members]
    write_json(path.with_name(ARCHITECTURE_FILE), {"members": plain, "flip": flip, "divided": divided})


def read_graph(path: Path) -> ExportGraph:
    """Build the graph of `write_weights` again, in eval mode.

    Args:
        path: of model.safetensors, with the other files beside it.
    """
    plain = json.loads(path.with_name(ARCHITECTURE_FILE).read_text())
    graph = ExportGraph([Member.from_plain(each) for each in plain["members"]], flip=plain["flip"])
    state: dict[str, Tensor] = load_file(path)
    if plain["divided"]:
        heads = load_file(path.with_name(HEADS_FILE))
        state = {BACKBONE + name: value for name, value in state.items()}
        state |= {f"networks.0.{name}": value for name, value in heads.items()}
    graph.load_state_dict(state)
    return graph.requires_grad_(False).eval().to(memory_format=torch.channels_last)


def _timm_config(member: Member) -> dict[str, Any]:
    """Return the config.json that timm reads: the backbone as a model without classifier, and its normalisation."""
    backbone = cast(HardSharing, member.network.sharing).backbone
    size = member.architecture["options"].get("image_size")
    native: Mapping[str, Any] = cast(Any, backbone).pretrained_cfg
    return {
        "architecture": member.architecture["backbone"].partition(".")[0],
        "num_classes": 0,
        "num_features": cast(Any, backbone).num_features,
        "pretrained_cfg": {
            "input_size": [3, size, size] if size else list(native["input_size"]),
            "mean": list(member.mean),
            "std": list(member.std),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "num_classes": 0,
            "first_conv": native.get("first_conv"),
            "classifier": native.get("classifier"),
        },
    }
