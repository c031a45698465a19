"""Shared parts of the tests of exported models: a network with every kind of head."""

from __future__ import annotations

from typing import Any

import torch

from mask_lightning.exporting.graph import Member, build_network

SIZE = 32
NUMBER = {"top": 60.0, "borders": [29.5, 59.5]}
ARCHITECTURE: dict[str, Any] = {
    "backbone": "test_resnet",
    "num_classes": {"mask": 3, "years": 3, "both": 3, "coral": 4, "corn": 3},
    "options": {
        "image_size": SIZE,
        "sharing": None,
        "heads": {
            "years": {"name": "regression", **NUMBER},
            "both": {"name": "classes_and_regression", "top": 60.0},
            "coral": {"name": "coral"},
            "corn": {"name": "corn"},
        },
    },
}


def make_member(seed: int = 0, **temperatures: float) -> Member:
    """A member with random weights; features are spread, so that probabilities are not all alike."""
    torch.manual_seed(seed)
    network = build_network(ARCHITECTURE).requires_grad_(False)
    for head in network.heads.values():
        head.linear.weight.mul_(5)
    return Member(network, ARCHITECTURE, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), temperatures)
