"""Mistakes in the options of the vote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mask_lightning.errors import ConfigError
from mask_lightning.settings.base import check
from mask_lightning.settings.inference import VoteSettings

VOTE: dict[str, Any] = {
    "runs": "sweep",
    "data": {"root": None},
    "kind": "hard",
    "weights": None,
    "allow_missing": False,
    "soup": True,
    "tta": "none",
    "submission": "auto",
    "batch_size": 64,
    "num_workers": None,
    "accelerator": "auto",
    "progress": True,
    "outputs": "outputs",
}


@pytest.mark.parametrize(("runs", "want"), [("sweep", ["sweep"]), (["a", "b"], ["a", "b"])])
def test_one_sweep_or_several(runs: Any, want: list[str]) -> None:
    assert check(VoteSettings, {**VOTE, "runs": runs}).runs == [Path(name) for name in want]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"decision": "macro_f1"}, "decision=macro_f1 needs probabilities, found kind=hard"),
        ({"runs": None}, "runs is not set; name a sweep: runs=outputs/sweeps/SWEEP"),
        ({"runs": []}, "runs must be a list with at least 1 item"),
        ({"kind": "loud"}, "kind must be 'hard', 'soft' or 'weighted', got 'loud'"),
        ({"weights": [1, 2]}, "weights are for kind=weighted, found them beside kind=hard"),
        ({"kind": "weighted", "weights": [-1, 2]}, r"weights\.0 must be greater than or equal to 0, got -1"),
        ({"submission": True}, "submission=true needs data.root, found null"),
    ],
)
def test_mistakes(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(VoteSettings, {**VOTE, **changed})
