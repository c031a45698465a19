"""Pseudo-labels and distillation, from a tiny teacher to tiny students; leaks are refused."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from tiny_runs import ONE_EPOCH, TINY_RUN, settings_for, without_figures

from mask_lightning.data.soft_targets import read_extra
from mask_lightning.errors import CheckpointError, ConfigError, LabelError, MaskLightningError, SplitError
from mask_lightning.inference.prediction_file import read_predictions
from mask_lightning.inference.trained import load_trained
from mask_lightning.labels import FACE, UNLABELLED
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.evaluate import evaluate_run
from mask_lightning.pipelines.predict import predict_photos
from mask_lightning.pipelines.prepare import PreparedRun, prepare_run
from mask_lightning.pipelines.pseudo_label import write_pseudo_labels
from mask_lightning.pipelines.soft_targets import natural_log_probs
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.evaluation import EvaluateSettings
from mask_lightning.settings.inference import PredictSettings, PseudoLabelSettings
from mask_lightning.settings.train import TrainSettings

TINY = (*TINY_RUN, *ONE_EPOCH, "trainer.max_batches=2", "loss.logit_adjustment=0.75")
QUIET = ("num_workers=0", "accelerator=cpu", "progress=false")


@pytest.fixture(scope="module")
def place(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher (all tasks), one of age alone, both of seed 0, and eval/ with eleven new photos."""
    folder = tmp_path_factory.mktemp("soft")
    for name, options in (("all", ()), ("age", ("task=age",))):
        with without_figures():
            runs.train_run(student(folder, competition, *options), folder / "teachers" / name)
    images = folder / "eval" / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(11):
        shade = rng.integers(0, 256, (6, 4, 3), np.uint8)
        Image.fromarray(shade).resize((96, 128)).save(images / f"{i}.png")
    pd.DataFrame({"ImageID": [f"{i}.png" for i in range(11)], "ans": 0}).to_csv(images.parent / "info.csv", index=False)
    return folder


def student(place: Path, competition: Path, *overrides: str) -> TrainSettings:
    options = *TINY, "data.split_seed=0", f"data.root={competition}", f"outputs={place}", *overrides
    return settings_for("train", TrainSettings, *options)


@pytest.fixture
def prepare(place: Path, competition: Path):
    return lambda *overrides: prepare_run(student(place, competition, *overrides))


def pseudo_label(place: Path, out: Path, *overrides: str) -> Path:
    options = *QUIET, f"ckpt={place}/teachers/all", f"data.root={place}/eval", *overrides
    write_pseudo_labels(settings_for("pseudo_label", PseudoLabelSettings, *options), out)
    return out / "pseudo_labels.parquet"


@pytest.fixture(scope="module")
def table(place: Path) -> Path:
    return pseudo_label(place, place / "pseudo", "share=1", "confidence=0")


def predicted(place: Path, ckpt: Path, out: Path, root: Path) -> Any:
    options = *QUIET, f"ckpt={ckpt}", f"data.root={root}", "calibrated=false", "submission=false"
    predict_photos(settings_for("predict", PredictSettings, *options), out)
    return read_predictions(out)


def test_pseudo_labels_are_the_networks_probabilities(place: Path, tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        path = pseudo_label(place, tmp_path / "out", "share=0.5", "confidence=0.1")
    assert "is not calibrated" in caplog.text
    found, raw = read_extra(path, FACE), predicted(place, place / "teachers" / "all", tmp_path / "raw", place / "eval")
    assert found.soft is not None
    names = [Path(each).name for each in found.rows["path"]]
    rows = [raw.photos["photo"].tolist().index(name) for name in names]
    module = load_trained(place / "teachers" / "all", torch.device("cpu")).module
    for task in FACE.names:
        counts = np.array(module.hparams["class_counts"][task])
        want = softmax(np.log(raw.probs[task][rows]) + 0.75 * np.log(counts / counts.sum()), axis=1)
        np.testing.assert_allclose(found.soft.probs[task], want, rtol=1e-4)
        used = found.soft.weights[task] > 0
        assert found.soft.weights[task][used].mean() == pytest.approx(1, rel=1e-5)
    csv = pd.read_csv(tmp_path / "out" / "pseudo_labels.csv")
    assert csv["probs/age/<30"].to_numpy() == pytest.approx(found.soft.probs["age"][:, 0])
    with pytest.raises(MaskLightningError, match=r"already holds pseudo_labels\.parquet"):
        pseudo_label(place, tmp_path / "out")


def test_calibrated_pseudo_labels_and_plain_weights(place: Path, tmp_path: Path, caplog) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(place / "teachers" / "all", teacher)
    evaluate = settings_for("evaluate", EvaluateSettings, *QUIET, f"ckpt={teacher}", "calibrate=true")
    evaluate_run(evaluate, tmp_path / "evaluated")
    with caplog.at_level(logging.WARNING):
        path = pseudo_label(place, tmp_path / "out", f"ckpt={teacher}", "share=1", "confidence=0", "balanced=false")
    assert caplog.text == ""
    soft = read_extra(path, FACE).soft
    assert soft is not None
    assert all((weights == 1).all() for weights in soft.weights.values())


def test_without_confident_photos_nothing_is_written(place: Path, tmp_path: Path) -> None:
    with pytest.raises(MaskLightningError, match=r"found none for 11 photos; lower confidence"):
        pseudo_label(place, tmp_path / "out", "confidence=1")
    assert not (tmp_path / "out").exists()


def test_further_photos_are_on_the_training_side_only(prepare, table: Path) -> None:
    plain, run = prepare(), prepare(f"data.extra={table}", "data.extra_weight=0.5", "data.balanced_by=[age]")
    assert run.soft is not None
    data, count = run.build_data(), len(plain.photos.targets)
    assert len(data.split.train) == count + 11
    assert data.split.val["path"].tolist() == plain.photos.split.val["path"].tolist()
    assert not set(run.soft.extra["path"]) & set(data.clean_rows["path"])
    assert (data.split.train["age"][count:] == UNLABELLED).all()
    stored = read_extra(table, FACE).soft
    assert stored is not None
    np.testing.assert_allclose(run.soft.targets.weights["age"], [*[0] * count, *stored.weights["age"] / 2], rtol=1e-6)
    sample = data.train_dataset()[(0, count + 3)]
    assert sample["soft"]["mask"].probs.tolist() == pytest.approx(stored.probs["mask"][3].tolist())
    assert sample["target"]["mask"] == UNLABELLED
    module = run.build_module()
    counts = {task: list(map(float, each)) for task, each in module.hparams["class_counts"].items()}
    assert sum(counts["age"]) == pytest.approx(count)  # labels only, as drawn
    assert module.soft_temperature == 1


def test_a_student_learns_from_both_and_the_run_records_it(
    place: Path, competition: Path, table: Path, tmp_path: Path
) -> None:
    options = f"data.extra={table}", f"distill={place}/teachers", "loss.distill_temperature=3", "mix=cutmix"
    with without_figures():
        result = runs.train_run(student(place, competition, *options), tmp_path / "run")
    assert result.status == "finished"
    record = json.loads((tmp_path / "run" / "result.json").read_text())["data"]["soft_targets"]
    assert sorted(record["teachers"]) == [f"{place}/teachers/{name}" for name in ("age", "all")]
    assert record["extra"] == {"table": str(table), "photos": 11}
    assert record["leaked_photos"] == 0
    assert len(pd.read_csv(tmp_path / "run" / "extra.csv")) == 11
    assert predicted(place, tmp_path / "run", tmp_path / "p", place / "eval").space == FACE
    # A student is a teacher, too; and what taught it is checked with it.
    prepared = prepare_run(student(place, competition, f"distill={tmp_path}/run"))
    assert prepared.soft is not None
    assert len(prepared.soft.record["networks"]) == 1


def test_teachers_are_averaged_over_the_tasks_that_they_predict(prepare, place: Path, tmp_path: Path) -> None:
    run: PreparedRun = prepare(f"distill=[{place}/teachers]", "loss.distill_weight=0.25")
    assert run.soft is not None
    rows, targets = run.photos.targets, run.soft.targets
    listed = tmp_path / "photos.csv"
    pd.DataFrame({"path": [Path(path).name for path in rows["path"][:4]]}).to_csv(listed, index=False)
    for path in rows["path"][:4]:
        shutil.copy(path, tmp_path / Path(path).name)
    want: dict[str, list[np.ndarray]] = {task: [] for task in FACE.names}
    for name in ("all", "age"):
        part = predicted(place, place / "teachers" / name, tmp_path / name, listed)
        network = load_trained(place / "teachers" / name, torch.device("cpu"))
        for task in network.space.names:
            want[task].append(np.exp(natural_log_probs(network, task, np.log(part.probs[task].astype(np.float64)))))
    assert len(want["age"]) == 2
    for task in FACE.names:
        np.testing.assert_allclose(targets.probs[task][:4], np.mean(want[task], axis=0), rtol=1e-3)
        assert (targets.weights[task] == 0.25).all()
    assert run.build_module().soft_temperature == 2


def test_teachers_predict_photos_without_probabilities(prepare, place: Path, tmp_path: Path, caplog) -> None:
    (tmp_path / "t.csv").write_text(
        "path\n" + "\n".join(map(str, sorted((place / "eval" / "images").iterdir()))) + "\n"
    )
    with pytest.raises(LabelError, match=r"expected probabilities .* or name teachers: distill=RUNS"):
        prepare(f"data.extra={tmp_path}/t.csv")
    with caplog.at_level(logging.WARNING):
        run = prepare(f"data.extra={tmp_path}/t.csv", f"distill={place}/teachers/age")
    assert run.soft is not None
    assert "no teacher predicts mask, gender, which is learned from labels alone" in caplog.text
    weights = run.soft.targets.weights
    assert (weights["age"][-11:].tolist(), weights["age"][0]) == ([1] * 11, 0.5)


@pytest.mark.parametrize("by", ["person_id", "content", "copy"])
def test_held_out_people_are_refused(prepare, table: Path, tmp_path: Path, by: str) -> None:
    val = prepare().photos.split.val
    frame = pd.read_parquet(table)
    path = val["path"].iloc[0]
    if by == "person_id":
        frame["person_id"] = ["other"] * 10 + [val["person_id"].iloc[0]]
    elif by == "content":
        frame.loc[10, "path"] = path
    else:
        frame.loc[10, "path"] = str(tmp_path / "saved_again.png")
        Image.open(path).convert("RGB").save(frame.loc[10, "path"], compress_level=1)
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(SplitError, match=r"data.extra has 1 photos of people whom this run holds out .* remove them"):
        prepare(f"data.extra={tmp_path}/t.csv")
    assert prepare(f"data.extra={tmp_path}/t.csv", "data.val_fraction=0", "checkpoint.monitor=clean_train/f1").soft


@pytest.mark.parametrize("option", ["distill", "data.extra"])
def test_networks_that_know_held_out_people_are_refused(prepare, place: Path, table: Path, caplog, option: str) -> None:
    override = f"distill={place}/teachers/all" if option == "distill" else f"data.extra={table}"
    with pytest.raises(
        SplitError, match=r"teachers/all was trained on \d+ people whom this run holds out .*allow_leak"
    ):
        prepare(override, "data.split_seed=1")
    with caplog.at_level(logging.WARNING):
        run = prepare(override, "data.split_seed=1", "allow_leak=true")
    assert run.soft is not None
    assert run.soft.record["leaked_photos"] > 0
    assert "the scores are too good" in caplog.text


def test_a_teachers_teacher_is_checked_and_unknown_ones_are_named(prepare, place: Path, tmp_path: Path, caplog) -> None:
    teacher = RunFolder(tmp_path / "teacher")
    shutil.copytree(place / "teachers" / "all", teacher.path)
    run = prepare(f"distill={teacher.path}", "data.split_seed=0")
    assert run.soft is not None
    # The teacher holds out the student's people, but its own teacher (of another split) does not.
    other = RunFolder(tmp_path / "other")
    shutil.copytree(teacher.path, other.path)
    other.split.write_text(other.split.read_text().replace(",val\n", ",train\n"))
    result = teacher.read_result()
    teacher.update_result(data={**result.data, "soft_targets": {"networks": [str(other.path)]}})
    with pytest.raises(SplitError, match="other was trained on"):
        prepare(f"distill={teacher.path}")
    shutil.rmtree(other.path)
    with caplog.at_level(logging.WARNING):
        prepare(f"distill={teacher.path}")
    assert f"cannot tell whether {other.path} was trained on people" in caplog.text


def test_teachers_that_do_not_fit(prepare, place: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected runs of teachers at .*nowhere, found nothing"):
        prepare(f"distill={tmp_path}/nowhere")
    teacher = RunFolder(tmp_path / "teacher")
    shutil.copytree(place / "teachers" / "age", teacher.path)
    with pytest.raises(
        LabelError, match=r"the run learns mask .*; its teacher .* predicts age .*; set distill to runs"
    ):
        prepare(f"distill={teacher.path}", "task=mask")
    teacher.update_result(status="failed")
    with pytest.raises(CheckpointError, match=r"expected finished runs below .*teacher, found 1 others"):
        prepare(f"distill={teacher.path}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.distill_weight=0.1"], "loss.distill_weight=0.1 is for distill, found null"),
        (["loss.distill_temperature=4"], "loss.distill_temperature=4 is for distill, found null"),
        (["data.extra_weight=2"], "data.extra_weight=2 is for data.extra, found null"),
        (["allow_leak=true"], "allow_leak=true is for distill, data.extra and model.pretrained=RUN, found none"),
        (["distill=run", "head=regression"], "distill teaches probabilities of classes, found head=regression"),
        (["data.extra=t.csv", "head=ordinal"], "data.extra teaches probabilities of classes, found head=ordinal"),
        (["distill=[]"], "distill must be a list with at least 1 item"),
    ],
)
def test_options_that_do_not_fit(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_for("train", TrainSettings, *overrides)
