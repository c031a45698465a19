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
        *(
            (PredictSettings, {**PREDICT, "faces": "all", **options}, message)
            for options, message in (
                ({"submission": True}, "holds one face per photo, found submission=true beside faces=all"),
                ({"decision": "macro_f1"}, "decision=macro_f1 is for one face per photo"),
                ({"shard": "1/2"}, "shards are for one face per photo"),
                ({"shards": 2}, "shards are for one face per photo"),
                ({"faces": "two"}, "faces must be 'one' or 'all', got 'two'"),
                ({"faces": "one", "annotate": True}, "annotate is for faces=all, found annotate=true beside faces=one"),
                ({"faces": "one", "max_faces": 3}, "max_faces is for faces=all, found max_faces=3"),
                ({"faces": "one", "min_size": 3}, "min_size is for faces=all, found min_size=3"),
                ({"faces": "one", "every": 3}, "every is for faces=all, found every=3"),
                ({"faces": "one", "seconds": 3}, r"seconds is for faces=all, found seconds=3\.0"),
                ({"max_faces": 0}, "max_faces must be greater than or equal to 1, got 0"),
                ({"min_size": -1}, "min_size must be greater than or equal to 0, got -1"),
                ({"every": 0}, "every must be greater than or equal to 1, got 0"),
                ({"seconds": 0}, "seconds must be greater than 0, got 0"),
            )
        ),
        (BlendSettings, {**BLEND, "files": ["a"]}, r"files must name two or more to blend, got \['a'\]"),
        (BlendSettings, {**BLEND, "files": "a.csv"}, "files must name two or more to blend, got a.csv"),
        (BlendSettings, {**BLEND, "kind": "median"}, "kind must be 'vote' or 'mean', got 'median'"),
        (CheckSubmissionSettings, {**CHECK, "file": None}, "file is not set; name a submission"),
    ],
)
def test_mistakes(settings: type[BaseModel], config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(settings, config)
