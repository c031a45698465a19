"""Temperatures beside a checkpoint: written, applied to the right predictions, and refused if damaged."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax

from mask_lightning.errors import CheckpointError
from mask_lightning.inference.photo_list import read_photo_list
from mask_lightning.inference.predict import predict
from mask_lightning.inference.prediction_file import read_predictions, write_predictions
from mask_lightning.inference.temperatures import (
    Calibration,
    fitting_temperatures,
    read_calibration,
    require_corrections,
    write_calibration,
)
from mask_lightning.inference.trained import Trained, load_trained
from mask_lightning.metrics.calibration import Correction
from mask_lightning.runs.folder import RunFolder


@pytest.fixture
def trained(make_checkpoint) -> Trained:
    return load_trained(make_checkpoint("run/checkpoints/best.ckpt"), torch.device("cpu"))


@pytest.fixture
def rows(eval_folder: Path) -> pd.DataFrame:
    return read_photo_list(eval_folder).table.assign(age=[0, 1, 2, 0, 1])


def keep(trained: Trained, **changes: object) -> Path:
    calibration = Calibration({"age": 2.0, "mask": 0.5}, trained.source.sha256, "none", people=9, photos=63)
    return write_calibration(trained.source.checkpoint, replace(calibration, **changes))


def test_they_are_beside_the_checkpoint_of_the_run(trained: Trained, tmp_path: Path) -> None:
    assert read_calibration(trained.source.checkpoint) is None
    path = keep(trained)
    assert path == RunFolder(tmp_path / "run").calibration
    assert read_calibration(trained.source.checkpoint).people == 9


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_predictions_are_scaled_and_record_it(trained: Trained, rows: pd.DataFrame, tmp_path: Path, tta) -> None:
    raw = predict(trained, rows, tta=tta, num_workers=0)
    keep(trained, tta=tta)
    untouched, scaled = (predict(trained, rows, tta=tta, calibrated=on, num_workers=0) for on in (False, True))
    np.testing.assert_array_equal(untouched.probs["age"], raw.probs["age"])
    assert (raw.sources[0].tta, raw.sources[0].temperatures) == (tta, {})
    for task, temperature in (("age", 2.0), ("mask", 0.5), ("gender", 1.0)):
        want = softmax(np.log(raw.probs[task].astype(np.float64)) / temperature, axis=1)
        np.testing.assert_allclose(scaled.probs[task], want, rtol=1e-4)
    assert all((scaled.preds[task] == raw.preds[task]).all() for task in raw.space.names)
    np.testing.assert_allclose(scaled.losses["age"], -np.log(scaled.probs["age"][range(5), rows["age"]]), rtol=1e-4)
    write_predictions(tmp_path / "p.parquet", scaled)
    (source,) = read_predictions(tmp_path / "p.parquet").sources
    assert (source.tta, source.temperatures) == (tta, {"age": 2.0, "mask": 0.5})


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"sha256": "0" * 64}, "was fitted for another checkpoint"), ({"tta": "flip"}, "fitted with tta=flip")],
)
def test_temperatures_of_another_checkpoint_or_tta_are_not_applied(
    trained: Trained, caplog: pytest.LogCaptureFixture, changes: dict[str, str], message: str
) -> None:
    keep(trained, **changes)
    with caplog.at_level(logging.WARNING):
        assert fitting_temperatures(trained.source, "none") == {}
    assert message in caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        "{}",
        '{"temperatures": {}}',
        json.dumps({"temperatures": {}, "sha256": "", "tta": "", "people": 1, "photos": 1, "corrections": {"age": 1}}),
        json.dumps({"temperatures": {"age": -1}, "sha256": "", "tta": "none", "people": 1, "photos": 1}),
    ],
)
def test_a_damaged_file_is_refused(trained: Trained, damage: str) -> None:
    keep(trained).write_text(damage)
    with pytest.raises(CheckpointError, match=r"calibration\.json .*; delete it, or fit them anew"):
        fitting_temperatures(trained.source, "none")


def test_corrections_for_decisions_are_kept_and_required(trained: Trained) -> None:
    fitted = {
        "mask": Correction(0.5, (1.0, 0.0, -1.0)),
        "gender": Correction(1.5, (0.5, -0.5)),
        "age": Correction(2.0, (0.0, 0.0, 0.0)),
    }
    remedy = r"needs calibrated probabilities, found none of {} beside .*evaluate ckpt=RUN calibrate=true{}$"
    with pytest.raises(CheckpointError, match=remedy.format("mask, gender, age", "")):
        require_corrections([trained.source], "none")
    keep(trained)  # as version 0.1.0: temperatures only
    with pytest.raises(CheckpointError, match=remedy.format("mask, gender, age", "")):
        require_corrections([trained.source], "none")
    keep(trained, corrections=fitted)
    assert require_corrections([trained.source], "none") == fitted
    with pytest.raises(CheckpointError, match=remedy.format("mask, gender, age", " tta=flip")):
        require_corrections([trained.source], "flip")
