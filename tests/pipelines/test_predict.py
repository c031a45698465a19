"""From a real, tiny training run to answers, a blend and a check."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_runs import ONE_EPOCH, TINY_RUN, settings_for, without_figures

from mask_lightning import predict as command
from mask_lightning.cli.command import Job
from mask_lightning.cli.compose import config_dir
from mask_lightning.data import images
from mask_lightning.errors import CheckpointError, ConfigError, MaskLightningError, RunFolderError, SubmissionError
from mask_lightning.inference.prediction_file import read_predictions, write_predictions
from mask_lightning.inference.submission import read_answers
from mask_lightning.labels import FACE
from mask_lightning.pipelines import predict as prediction_runs
from mask_lightning.pipelines import submissions
from mask_lightning.pipelines import train as runs
from mask_lightning.settings.inference import BlendSettings, CheckSubmissionSettings, MergeSettings, PredictSettings
from mask_lightning.settings.train import TrainSettings

TINY = (*TINY_RUN, *ONE_EPOCH, "trainer.max_batches=1")
QUIET = ("num_workers=0", "accelerator=cpu", "progress=false")

Compose = Callable[..., Any]


@pytest.fixture(scope="module")
def trained(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four runs: all, mask, gender, age."""
    folder = tmp_path_factory.mktemp("trained")
    for task in ("all", "mask", "gender", "age"):
        settings = settings_for(
            "train", TrainSettings, *TINY, f"task={task}", f"data.root={competition}", f"outputs={folder}"
        )
        with without_figures():
            runs.train_run(settings, folder / task)
    return folder


@pytest.fixture(scope="module")
def photos(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds eval/ with 12 photos, in an order that is not that of their names."""
    root = tmp_path_factory.mktemp("photos")
    images = root / "eval" / "images"
    images.mkdir(parents=True)
    shots = sorted(competition.rglob("*mask*.jpg"))
    found = [path for path in shots if not path.name.startswith(".")][:12]
    names = [f"{hashlib.sha1(str(i).encode()).hexdigest()}.jpg" for i in range(len(found))]
    for name, path in zip(names, found, strict=True):
        Image.open(path).save(images / name)
    pd.DataFrame({"ImageID": names, "ans": 0}).to_csv(root / "eval" / "info.csv", index=False)
    return root


@pytest.fixture
def predict(trained: Path, photos: Path, tmp_path: Path) -> Compose:
    def predict(*tasks: str, root: Path = photos, out: str = "out", **options: str) -> Any:
        ckpt = ",".join(str(trained / task) for task in tasks)
        overrides = [f"{key}={value}" for key, value in options.items()]
        settings = settings_for("predict", PredictSettings, f"ckpt=[{ckpt}]", f"data.root={root}", *QUIET, *overrides)
        prediction_runs.predict_photos(settings, tmp_path / out)
        return read_predictions(tmp_path / out)

    return predict


def test_a_run_and_the_eval_folder_make_a_submission(predict, photos: Path, tmp_path: Path, capsys) -> None:
    said = predict("all")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "predictions.csv",
        "predictions.parquet",
        "submission.csv",
    ]
    table = pd.read_csv(tmp_path / "out" / "submission.csv")
    official = pd.read_csv(photos / "eval" / "info.csv")
    assert table["ImageID"].tolist() == official["ImageID"].tolist()
    best = {task: probs.argmax(1) for task, probs in said.probs.items()}
    assert table["ans"].tolist() == (best["mask"] * 6 + best["gender"] * 3 + best["age"]).tolist()
    back = read_predictions(tmp_path / "out", FACE)
    assert back.sources[0].checkpoint.endswith("all/checkpoints/best.ckpt")
    checkpoint = Path(back.sources[0].checkpoint)
    assert back.sources[0].sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    shown = capsys.readouterr()
    assert "12 photos" in shown.out
    assert f"check_submission file={tmp_path / 'out'} data.root={photos}" in shown.err


def test_a_run_for_each_task_makes_the_18_classes(predict, tmp_path: Path) -> None:
    whole = predict("age", "mask", "gender")
    for task in FACE.names:
        alone = predict(task, out=task, submission="false")
        np.testing.assert_array_equal(whole.probs[task], alone.probs[task])
        assert not (tmp_path / task / "submission.csv").exists()
    codes = FACE.encode({task: whole.probs[task].argmax(1) for task in FACE.names})
    np.testing.assert_array_equal(read_answers(tmp_path / "out").codes, codes)


def test_one_photo_is_answered_on_the_terminal(predict, photos: Path, capsys) -> None:
    photo = min((photos / "eval" / "images").iterdir())
    said = predict("age", root=photo)
    shown = capsys.readouterr().out
    probs = said.probs["age"][0]
    for name, probability in zip(("<30", "30-59", ">=60"), probs, strict=True):
        assert f"{name} {probability:.2f}" in shown
    assert "submission" not in shown


def test_answers_are_never_overwritten(predict, tmp_path: Path) -> None:
    predict("mask", submission="false")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(RunFolderError, match=r"already holds predictions\.parquet"):
        predict("all")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        (("mask",), {}, r"takes the 18 classes of .*, found mask \(wear, incorrect, normal\)"),
        (("mask", "gender"), {}, "takes the 18 classes of"),
        (("mask", "gender", "mask"), {}, "expected one answer for each task, found mask"),
        (("all", "age"), {}, "expected one answer for each task, found age"),
        (("nowhere",), {}, "found nothing; set ckpt"),
    ],
)
def test_runs_that_do_not_fit_are_refused_before_a_photo_is_opened(
    predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks, options, message: str
) -> None:
    monkeypatch.setattr("mask_lightning.data.prepared.decode_photo", lambda *_: pytest.fail("too late"))
    with pytest.raises(MaskLightningError, match=message):
        predict(*tasks, **options)
    assert not (tmp_path / "out").exists()


def test_a_broken_photo_leaves_nothing(predict, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    Image.new("RGB", (50, 50)).save(folder / "a.jpg")
    (folder / "b.jpg").write_bytes((folder / "a.jpg").read_bytes()[:200])
    with pytest.raises(MaskLightningError, match=r"^cannot decode .*b\.jpg"):
        predict("all", root=folder)
    (folder / "c.jpg").write_text("no photo")
    with pytest.raises(MaskLightningError, match=r"^2 of 3 photos cannot be decoded: .*b\.jpg.*c\.jpg"):
        predict("all", root=folder)
    assert not (tmp_path / "out").exists()


def test_every_photo_is_decoded_once(predict, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = images.decode_photo
    for module in ("images", "prepared"):
        monkeypatch.setattr(
            f"mask_lightning.data.{module}.decode_photo",
            lambda path, *args: opened.append(str(path)) or real(path, *args),
        )
    predict("age", "mask", "gender")
    assert sorted(opened) == sorted(map(str, (photos / "eval" / "images").iterdir()))


def test_a_truncated_checkpoint_leaves_nothing(predict, trained: Path, tmp_path: Path) -> None:
    whole = trained / "mask" / "checkpoints" / "best.ckpt"
    (tmp_path / "cut.ckpt").write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="truncated"):
        predict(str(tmp_path / "cut.ckpt"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(predict, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(RunFolderError, match=r"cannot write to .*out"):
        predict("all")


def blend(tmp_path: Path, kind: str, *files: str, out: str = "blend") -> Any:
    names = ",".join(str(tmp_path / name) for name in files)
    settings = settings_for("blend", BlendSettings, f"files=[{names}]", f"kind={kind}")
    return submissions.blend(settings, tmp_path / out)


def test_blends(predict, tmp_path: Path, capsys) -> None:
    whole, three = predict("all", out="a"), predict("mask", "gender", "age", out="b")
    predict("age", out="c", submission="false")
    mean = blend(tmp_path, "mean", "a", "b", out="mean")
    best = {task: ((whole.probs[task] + three.probs[task]) / 2).argmax(1) for task in FACE.names}
    np.testing.assert_array_equal(mean.codes, best["mask"] * 6 + best["gender"] * 3 + best["age"])
    np.testing.assert_array_equal(read_predictions(tmp_path / "mean", FACE).codes, mean.codes)
    voted = blend(tmp_path, "vote", "a", "b/predictions.parquet", out="vote")
    np.testing.assert_array_equal(voted.codes, np.minimum(whole.codes, three.codes))
    assert [path.name for path in (tmp_path / "vote").iterdir()] == ["submission.csv"]
    blend(tmp_path, "mean", "a", "c", out="more")
    assert "not all tasks" in capsys.readouterr().out
    with pytest.raises(RunFolderError, match="already holds"):
        blend(tmp_path, "vote", "a", "b", out="vote")


def test_a_blend_without_all_tasks_leaves_nothing(predict, tmp_path: Path) -> None:
    for name in ("mask", "age"):
        predict(name, out=name, submission="false")
    with pytest.raises(SubmissionError, match="takes the 18 classes"):
        blend(tmp_path, "mean", "mask", "age")
    assert not (tmp_path / "blend").exists()


def check_file(file: Path, *overrides: str) -> None:
    submissions.check_submission(settings_for("check_submission", CheckSubmissionSettings, f"file={file}", *overrides))


def test_a_good_submission(predict, photos: Path, competition: Path, tmp_path: Path, capsys) -> None:
    said = predict("all")
    other = pd.read_csv(tmp_path / "out" / "submission.csv")
    other.loc[:2, "ans"] = (other["ans"][:3] + 6) % 18  # another mask state on three photos
    other.to_csv(tmp_path / "other.csv", index=False)
    capsys.readouterr()
    check_file(tmp_path / "out", f"data.root={photos}", f"train={competition}", f"against={tmp_path / 'other.csv'}")
    shown = capsys.readouterr().out
    assert "valid: columns, ImageIDs and range, names and order as in info.csv" in shown
    truth = pd.Series([path.stem for path in competition.rglob("*") if path.suffix in (".jpg", ".jpeg", ".png")])
    assert truth.str.startswith("mask").any()
    rows = {line.split("│")[1].strip(): line.split("│") for line in shown.splitlines() if line.count("│") > 3}
    for code in range(18):
        assert int(rows[str(code)][3]) == (said.codes == code).sum()
    assert [rows[name][2].strip() for name in ("all tasks", "mask", "gender", "age")] == ["3", "3", "0", "0"]


def test_every_problem_is_shown(predict, photos: Path, tmp_path: Path, capsys) -> None:
    predict("all")
    lines = (tmp_path / "out" / "submission.csv").read_text().splitlines()
    name = lines[1].split(",")[0]
    (tmp_path / "bad.csv").write_text("\n".join([lines[0], f"{name},18", *lines[2:-1], lines[2]]))
    with pytest.raises(SubmissionError, match="not a valid submission: 1 ImageIDs stand twice"):
        check_file(tmp_path / "bad.csv", f"data.root={photos}")
    shown = capsys.readouterr().out
    assert shown.count("error:") == 3
    assert "1 of 12 photos have no answer" in shown
    assert "1 answers are not a class from 0 to 17 (18)" in shown


def test_without_the_official_list_the_order_is_not_checked(predict, tmp_path: Path, capsys) -> None:
    predict("all")
    check_file(tmp_path / "out")
    assert "not checked: names and order" in capsys.readouterr().out


def test_merged_shards_equal_a_single_run(predict, trained: Path, photos: Path, tmp_path: Path, capsys) -> None:
    predict("all", out="single", batch_size="2")
    options = (f"ckpt={trained}/all", f"data.root={photos}", "batch_size=2", *QUIET)

    def shard(i: int) -> None:
        settings = settings_for("predict", PredictSettings, *options, f"shard={i}/3")
        prediction_runs.predict_photos(settings, tmp_path / "shards")

    for i in (1, 2, 3):
        shard(i)
    before = capsys.readouterr().err
    shard(2)
    assert "skipped" not in before
    assert "skipped: shard 2/3 is finished in" in capsys.readouterr().err
    settings = settings_for("merge", MergeSettings, f"shards={tmp_path}/shards")
    prediction_runs.merge_shards(settings, tmp_path / "merged")
    names = sorted(path.name for path in (tmp_path / "single").iterdir())
    assert (
        names == sorted(prediction_runs.OUTPUT_NAMES) == sorted(path.name for path in (tmp_path / "merged").iterdir())
    )
    for name in names:
        assert (tmp_path / "single" / name).read_bytes() == (tmp_path / "merged" / name).read_bytes()
    with pytest.raises(RunFolderError, match=r"already holds predictions\.parquet"):
        prediction_runs.merge_shards(settings, tmp_path / "merged")


def test_a_shard_of_another_checkpoint_is_not_taken_for_this_one(trained: Path, photos: Path, tmp_path: Path) -> None:
    for task in ("age", "gender"):
        options = (f"ckpt={trained}/{task}", f"data.root={photos}", "shard=1/1", *QUIET)
        settings = settings_for("predict", PredictSettings, *options, "submission=false")
        if task == "age":
            prediction_runs.predict_photos(settings, tmp_path / "shards")
            continue
        with pytest.raises(RunFolderError, match="expected shard 1/1 of these photos, checkpoints and options"):
            prediction_runs.predict_photos(settings, tmp_path / "shards")


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1/", "a/b", "1/0"])
def test_an_impossible_shard_is_one_line(shard: str) -> None:
    with pytest.raises(ConfigError, match=f"shard must be i/n with i from 1 to n, got {shard}"):
        settings_for("predict", PredictSettings, "ckpt=x", "data.root=y", f"shard={shard}")


@pytest.mark.parametrize(
    ("options", "multirun", "message"),
    [
        ("shards=2", False, "shards=2 runs several jobs, found a single run; add -m"),
        ("shard=1/2", True, "set shards=n"),
    ],
)
def test_shards_are_for_a_multirun(options: str, multirun: bool, message: str) -> None:
    settings = settings_for("predict", PredictSettings, "ckpt=x", "data.root=y", options)
    with pytest.raises(ConfigError, match=message):
        command.main(settings, Job(Path(), (), multirun))


def test_the_folder_of_shards_depends_on_the_options(tmp_path: Path) -> None:
    def folder(*overrides: str) -> str:
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            options = ["ckpt=x", "data.root=y", f"outputs={tmp_path}", *overrides]
            return str(hydra.compose("predict", options, return_hydra_config=True).hydra.sweep.dir)

    assert folder("shards=4") == folder("shards=4", "shard=3/4") == folder("shard=1/4", "num_workers=2")
    found = {folder(*each) for each in ((), ("shards=4",), ("shards=5",), ("shards=4", "tta=flip"))}
    assert len(found) == 4


def test_a_mean_of_decided_predictions_is_not_decided(
    trained: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = *QUIET, f"ckpt=[{trained}/all]", f"data.root={photos}"
    prediction_runs.predict_photos(settings_for("predict", PredictSettings, *options), tmp_path / "a")
    raw = read_predictions(tmp_path / "a")
    decisions = {task: (raw.preds[task] + 1) % 2 for task in FACE.names}
    (tmp_path / "b").mkdir()
    write_predictions(tmp_path / "b" / "predictions.parquet", replace(raw, decisions=decisions))
    files = f"files=[{tmp_path}/a,{tmp_path}/b]"
    submissions.blend(settings_for("blend", BlendSettings, files, "kind=mean"), tmp_path / "mean")
    assert f"{tmp_path}/b: made with decision=macro_f1, which kind=mean drops" in caplog.text
    np.testing.assert_array_equal(read_answers(tmp_path / "mean").codes, raw.codes)
    np.testing.assert_array_equal(read_answers(tmp_path / "b" / "predictions.parquet").codes, FACE.encode(decisions))
