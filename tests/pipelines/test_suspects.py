"""From two tiny folds to a list that a person can review, and that changes nothing before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_runs import ONE_EPOCH, TINY_RUN, settings_for, without_figures

from mask_lightning.data.corrections import correct
from mask_lightning.data.index import read_index
from mask_lightning.errors import PredictionsError, RunFolderError
from mask_lightning.inference.predict import predict
from mask_lightning.inference.prediction_file import read_predictions
from mask_lightning.inference.trained import load_trained
from mask_lightning.labels import FACE
from mask_lightning.metrics.label_issues import LabelIssues
from mask_lightning.pipelines import suspects as suspects_runs
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.suspects import join_folds
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.settings.evaluation import SuspectsSettings
from mask_lightning.settings.train import TrainSettings

TINY = (*TINY_RUN, *ONE_EPOCH, "trainer.max_batches=1", "data.folds=2")
QUIET = ("num_workers=0", "accelerator=cpu", "progress=false", "share=1")


@pytest.fixture(scope="module")
def sweep(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    for fold in (0, 1):
        settings = settings_for("train", TrainSettings, *TINY, f"data.fold={fold}", f"data.root={competition}")
        with without_figures():
            runs.train_run(settings, folder / str(fold))
    return folder


def list_suspects(folder: Path, *overrides: str) -> list[LabelIssues]:
    return suspects_runs.list_suspects(settings_for("suspects", SuspectsSettings, *QUIET, *overrides), folder)


@pytest.fixture(scope="module")
def listed(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[LabelIssues], Path]:
    """All suspects, and the folder that holds them."""
    folder = tmp_path_factory.mktemp("suspects") / "out"
    return list_suspects(folder, f"runs={sweep}"), folder


def test_everybody_is_judged_by_the_network_that_has_not_seen_them(listed, sweep: Path, competition: Path) -> None:
    found, folder = listed
    said = read_predictions(folder, FACE)
    table = read_index(competition).set_index("path")
    assert sorted(said.photos["path"]) == sorted(table.index)
    for task in FACE.names:
        np.testing.assert_array_equal(said.targets[task], table.loc[said.photos["path"], task])
    for fold, rows in said.photos.groupby("fold"):
        record = json.loads((sweep / str(fold) / "result.json").read_text())
        assert record["data"]["val"] == {"people": rows["person_id"].nunique(), "photos": len(rows)}
        assert said.sources[fold].checkpoint == str(RunFolder(sweep / str(fold)).last)
        last = load_trained(RunFolder(sweep / str(fold)).last, torch.device("cpu"))
        alone = predict(last, rows[["path"]], num_workers=0)
        np.testing.assert_allclose(said.probs["age"][rows.index], alone.probs["age"], atol=1e-6)
    assert [each.labels for each in found] == [168, 23, 24]  # one person has two ages


@pytest.mark.parametrize(
    ("keep", "best_epoch", "warns"), [("last.ckpt", 1, False), ("best.ckpt", 1, True), ("best.ckpt", 3, False)]
)
def test_a_fold_without_its_last_epoch_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keep: str, best_epoch: int, warns: bool
) -> None:
    """Its best epoch was chosen on the labels in doubt, unless it is the last of 1 + 2 epochs."""
    folder = RunFolder(tmp_path / "fold")
    phases = {"finetune": {"phases": [{"epochs": 1}, {"epochs": 2}]}}
    folder.claim(phases, RunResult("finished", "val/f1", best_epoch=best_epoch))
    (folder.path / "checkpoints" / keep).touch()
    suspects_runs.warn_of_best([folder])
    assert ("train the folds with checkpoint.keep=both" in caplog.text) == warns
    assert (str(folder.path) in caplog.text) == warns


def test_the_list_is_written_for_people_and_programs(listed) -> None:
    found, folder = listed
    lines = pd.read_csv(folder / "suspects.csv", dtype=str)
    assert len(lines) == sum(map(len, found)) > 0
    assert set(lines["agreed_by"]) == {"0"}
    plain = json.loads((folder / "suspects.json").read_text(), parse_constant=pytest.fail)
    assert [len(plain["tasks"][task]["suspects"]) for task in FACE.names] == [len(each) for each in found]
    assert len(plain["sources"]) == 2
    page = (folder / "suspects.html").read_text()
    assert all(person in page for person in lines["person_id"])


def test_nothing_is_applied_unseen_and_what_is_agreed_is(listed, competition: Path, tmp_path: Path) -> None:
    table, path = read_index(competition), tmp_path / "suspects.csv"
    lines = pd.read_csv(listed[1] / "suspects.csv", dtype=str)
    pd.testing.assert_frame_equal(correct(table, listed[1] / "suspects.csv")[0], table)
    lines.loc[0, "agreed_by"] = "1"
    lines.to_csv(path, index=False)
    corrected, report = correct(table, path)
    assert report.applied == 1
    assert (corrected[list(FACE.names)] != table[list(FACE.names)]).any(axis=None)


def test_predictions_are_read_again_for_a_shorter_list(listed, tmp_path: Path, capsys) -> None:
    whole, folder = listed
    short = list_suspects(tmp_path / "short", f"predictions={folder}", "share=0.05")
    assert [each.listed for each in short] == [
        each.listed[:limit] for each, limit in zip(whole, (9, 2, 2), strict=True)
    ]
    shown = capsys.readouterr()
    assert "168 photos" in shown.out
    assert f"data.corrections={tmp_path / 'short' / 'suspects.csv'}" in shown.err
    with pytest.raises(RunFolderError, match=r"already holds predictions\.parquet"):
        list_suspects(folder, f"predictions={folder}")


def test_folds_that_answer_for_one_person_are_refused(listed) -> None:
    said = read_predictions(listed[1])
    with pytest.raises(PredictionsError, match="expected every person in one fold, found 000001"):
        join_folds([said, said])
