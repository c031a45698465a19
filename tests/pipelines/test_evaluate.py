"""From a real, tiny training run to an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score
from tiny_runs import ONE_EPOCH, TINY_RUN, settings_for, without_figures

from mask_lightning.errors import CheckpointError, ConfigError, RunFolderError
from mask_lightning.inference.prediction_file import read_predictions
from mask_lightning.inference.submission import read_answers
from mask_lightning.inference.temperatures import read_calibration
from mask_lightning.labels import FACE
from mask_lightning.metrics.decisions import decide
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.evaluate import evaluate_run
from mask_lightning.pipelines.predict import predict_photos
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.evaluation import EvaluateSettings
from mask_lightning.settings.inference import PredictSettings
from mask_lightning.settings.train import TrainSettings

TINY = (*TINY_RUN, *ONE_EPOCH, "data.split_seed=0", "trainer.max_batches=1")
QUIET = ("num_workers=0", "accelerator=cpu", "progress=false")


@pytest.fixture(scope="module")
def trained(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of other seeds on one split."""
    folder = tmp_path_factory.mktemp("evaluated")
    for seed in (0, 1):
        options = *TINY, f"seed={seed}", f"data.root={competition}", f"outputs={folder}"
        with without_figures():
            runs.train_run(settings_for("train", TrainSettings, *options), folder / str(seed))
    return folder


def settle(*overrides: str) -> EvaluateSettings:
    return settings_for("evaluate", EvaluateSettings, *QUIET, *overrides)


@pytest.mark.usefixtures("rendered")
def test_what_it_leaves_and_says(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = evaluate_run(settle(f"ckpt={trained}/0", f"against={trained}/1"), tmp_path / "out")
    said = read_predictions(tmp_path / "out" / "predictions.parquet")
    truth = FACE.encode(said.targets)
    want = f1_score(truth, said.codes, average="macro", labels=range(18), zero_division=0)
    assert evaluation.scores["joint"].f1 == pytest.approx(want)
    assert said.sources[0].temperatures == {}
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert told["scores"]["joint"]["f1"] == pytest.approx(want)
    assert (told["network"]["seen"], told["data"]["held_out"], told["photos"]) == (0, True, len(said))
    assert told["against"][0]["run"] == f"{trained}/1"
    gain = told["against"][0]["differences"]["joint"]["f1"]
    assert gain["low"] <= gain["value"] <= gain["high"]
    pictures = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {"reliability", "slices", "confusion", *(f"confusion_{task}" for task in FACE.names)}
    shown, next_command = capsys.readouterr()
    for words in ("people whom it held out", "mask x gender x age", "race", "must not decide about anyone"):
        assert words in " ".join(shown.split())
    assert "joint macro F1: difference" in shown
    assert f"python -m mask_lightning.report ckpt={trained}/0" in next_command
    with pytest.raises(RunFolderError, match=r"already holds evaluation\.json"):
        evaluate_run(settle(f"ckpt={trained}/0"), tmp_path / "out")


def test_temperatures_are_kept_and_predict_applies_them(trained: Path, competition: Path, tmp_path: Path) -> None:
    evaluation = evaluate_run(settle(f"ckpt={trained}/1", "calibrate=true", "tta=flip"), tmp_path / "out")
    kept = read_calibration(RunFolder(trained / "1").best)
    assert kept is not None
    assert kept.temperatures == {task: each.temperature for task, each in evaluation.calibration.items()}
    assert (kept.tta, kept.people) == ("flip", evaluation.people)
    photo = next((competition / "train" / "images").rglob("normal.jpg"))
    for option, want in (("auto", kept.temperatures), ("false", {})):
        options = f"ckpt=[{trained}/1]", f"data.root={photo}", "tta=flip", f"calibrated={option}"
        settings = settings_for("predict", PredictSettings, *QUIET, *options)
        predict_photos(settings, tmp_path / option)
        (source,) = read_predictions(tmp_path / option).sources
        assert source.temperatures == want
    # On other photos than gave them, they are what is judged.
    other = evaluate_run(settle(f"ckpt={trained}/1", f"data.root={competition}", "tta=flip"), tmp_path / "other")
    assert {task: each.temperature for task, each in other.calibration.items()} == kept.temperatures
    assert all(each.given for each in other.calibration.values())


def test_a_reader_is_warned_of_photos_it_was_trained_on(
    trained: Path, competition: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate_run(settle(f"ckpt={trained}/0", f"data.root={competition}"), tmp_path / "out")
    seen = RunFolder(trained / "0").read_result().data["train"]["photos"]
    assert f"was trained on {seen} of these photos" in " ".join(capsys.readouterr().out.split())


def test_a_checkpoint_elsewhere_cannot_tell(
    trained: Path,
    competition: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    alone = Path("alone.ckpt")  # a long path would be broken into lines
    alone.write_bytes(RunFolder(trained / "0").best.read_bytes())
    evaluate_run(settle(f"ckpt={alone}", "data=competition", f"data.root={competition}"), tmp_path / "out")
    shown, next_command = (" ".join(text.split()) for text in capsys.readouterr())
    assert "alone.ckpt may have been trained on these photos" in shown
    assert next_command.endswith(f"report ckpt={alone} data=competition data.root={competition}")


def test_temperatures_belong_to_a_run(trained: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes(RunFolder(trained / "0").best.read_bytes())
    with pytest.raises(RunFolderError, match=r"calibrate=true needs the run .* found only .*alone\.ckpt"):
        evaluate_run(settle(f"ckpt={alone}", "calibrate=true"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "ckpt is not set; name a trained run"),
        (["ckpt=run", "calibrate=true", "data.root=photos"], "calibrate=true fits temperatures on the people whom"),
        (["ckpt=run", "data=table"], "data=table needs data.table"),
        (["ckpt=run", "tta=mirror"], "tta must be 'none', 'flip', 'randaugment' or 'blend', got 'mirror'"),
    ],
)
def test_options_that_do_not_fit(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settle(*overrides)


def test_photos_of_the_run_come_from_its_cache(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mask_lightning.data.prepared.decode_photo", lambda path, _: pytest.fail(f"decoded {path}"))
    evaluation = evaluate_run(settle(f"ckpt={trained}/0", f"against={trained}/1"), tmp_path / "out")
    assert evaluation.photos > 0


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_decisions_for_macro_f1(
    trained: Path, competition: Path, tmp_path: Path, tta: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"ckpt={trained}/0", "decision=macro_f1", f"tta={tta}"
    photos = f"data.root={competition}"
    (RunFolder(trained / "0").calibration).unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=r"found none of mask, gender, age .*evaluate ckpt=RUN calibrate=true"):
        evaluate_run(settle(*options, photos), tmp_path / "none")
    evaluation = evaluate_run(settle(*options, "calibrate=true"), tmp_path / "out")
    decided = read_predictions(tmp_path / "out")
    want = f1_score(FACE.encode(decided.targets), decided.codes, average="macro", labels=range(18), zero_division=0)
    assert evaluation.scores["joint"].f1 == pytest.approx(want)
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())["decision"]
    argmax = FACE.encode({task: decided.probs[task].argmax(axis=1) for task in FACE.names})
    before = f1_score(FACE.encode(decided.targets), argmax, average="macro", labels=range(18), zero_division=0)
    assert found["over_argmax"]["joint"]["f1"]["value"] == pytest.approx(want - before)
    assert "of mask x gender x age, cross-fitted over 5 folds of the people" in " ".join(
        capsys.readouterr().out.split()
    )
    evaluate_run(settle(*options, photos), tmp_path / "other")  # with what is stored now

    predict = settings_for("predict", PredictSettings, *QUIET, f"data.root={competition}/train/images", *options)
    predict_photos(predict, tmp_path / "predicted")
    everyone = read_predictions(tmp_path / "predicted")
    answers = read_answers(tmp_path / "predicted" / "submission.csv")
    np.testing.assert_array_equal(answers.codes, everyone.codes)
    kept = read_calibration(RunFolder(trained / "0").best)
    assert kept is not None
    np.testing.assert_array_equal(decide(everyone, kept.corrections).codes, everyone.codes)
    assert everyone.sources[0].tta == tta
