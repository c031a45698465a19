"""Mistakes in the options of the doors after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mask_lightning.errors import ConfigError
from mask_lightning.settings.base import check
from mask_lightning.settings.inference import BlendSettings, CheckSubmissionSettings, PredictSettings

PREDICT: dict[str, Any] = {
    "ckpt": "run",
    "data": {"root": "photos"},
    "tta": "none",
    "calibrated": "auto",
    "submission": "auto",
    "batch_size": 64,
    "num_workers": None,
    "accelerator": "auto",
    "progress": True,
    "outputs": "outputs",
}
BLEND: dict[str, Any] = {"files": ["a", "b"], "kind": "vote", "out": None, "outputs": "outputs"}
CHECK: dict[str, Any] = {"file": "s.csv", "data": {"root": None}, "train": None, "against": None}


@pytest.mark.parametrize(("ckpt", "want"), [("run", ["run"]), (["a", "b.ckpt"], ["a", "b.ckpt"])])
def test_one_checkpoint_or_several(ckpt: Any, want: list[str]) -> None:
    assert check(PredictSettings, {**PREDICT, "ckpt": ckpt}).ckpt == [Path(name) for name in want]


@pytest.mark.parametrize(
    ("settings", "config", "message"),
    [
        (
            PredictSettings,
            {**PREDICT, "decision": "macro_f1", "shard": "1/2"},
            "decision=macro_f1 decides all photos together, found shard=1/2; predict without shards",
        ),
        (PredictSettings, {**PREDICT, "ckpt": None}, "ckpt is not set; name a trained run"),
        (PredictSettings, {**PREDICT, "ckpt": []}, "ckpt must be a list with at least 1 item"),
        (PredictSettings, {**PREDICT, "data": {"root": None}}, "data.root is not set; name a folder of photos"),
        (
            PredictSettings,
            {**PREDICT, "submission": "maybe"},
            "submission must be 'auto' or true or false, got 'maybe'",
        ),
        (PredictSettings, {**PREDICT, "batch_size": 0}, "batch_size must be greater than or equal to 1, got 0"),
        (PredictSettings, {**PREDICT, "accelerator": "tpu"}, "accelerator must be 'auto', 'cpu', 'gpu' or 'mps'"),
        (BlendSettings, {**BLEND, "files": ["a"]}, r"files must name two or more to blend, got \['a'\]"),
        (BlendSettings, {**BLEND, "files": "a.csv"}, "files must name two or more to blend, got a.csv"),
        (BlendSettings, {**BLEND, "kind": "median"}, "kind must be 'vote' or 'mean', got 'median'"),
        (CheckSubmissionSettings, {**CHECK, "file": None}, "file is not set; name a submission"),
    ],
)
def test_mistakes(settings: type[BaseModel], config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(settings, config)
