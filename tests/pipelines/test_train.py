"""Whole runs of a tiny network: what they leave, how they end early, how they go on."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from checkpoints import differences
from tiny_runs import TINY_RUN, interrupt, settings_for

from mask_lightning.data.batching import normalise
from mask_lightning.data.images import Decoded, decode_photo, open_photo
from mask_lightning.data.transforms import TransformSpec, eval_pipeline, to_uint8
from mask_lightning.engine.checkpoint_files import keep_weights
from mask_lightning.engine.modules import MultiTaskModule, SingleTaskModule
from mask_lightning.errors import ConfigError, DivergedError, LabelError, MaskLightningError, RunFolderError, Terminated
from mask_lightning.inference.trained import load_trained
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.photos import find_photos
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.train import TrainSettings

TINY = (*TINY_RUN, "data.batch_size=16", "data.clean_train_photos=28")
FEW_PEOPLE = ("data.limit_people=10", "data.clean_train_photos=14")  # an epoch of 5 batches, the last one incomplete


@pytest.fixture
def compose(competition: Path, tmp_path: Path):
    fixed = (*TINY, f"data.root={competition}", f"outputs={tmp_path}")
    return partial(settings_for, "train", TrainSettings, *fixed)


def weights_of(checkpoint: Path, part: str = "state_dict") -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)[part]


@pytest.mark.usefixtures("rendered")
def test_a_run_leaves_everything_about_it(compose, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    result = runs.train_run(
        compose("finetune.phases.0.unfreeze.last=2", "finetune.frozen_epochs=1", "finetune.epochs=1"),
        folder.path,
        ["seed=0"],
    )
    left = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file()}
    assert left == {
        "config.yaml",
        "result.json",
        "metrics.csv",
        "split.csv",
        "curves.png",
        "augmented.png",
        "schedule.png",
        "confusion.png",
        "confusion_mask.png",
        "confusion_gender.png",
        "confusion_age.png",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
    record = json.loads(folder.result.read_text())
    assert record["status"] == "finished"
    assert record["weights"] == "from scratch"
    assert record["overrides"] == ["seed=0"]
    assert record["data"]["val"]["people"] > 0
    history = pd.read_csv(folder.metrics)
    assert len(history) == 2
    assert result.score == pytest.approx(history["val/f1"].max(), abs=1e-6)
    assert history["val/f1"].iloc[result.best_epoch - 1] == history["val/f1"].max()


@pytest.mark.usefixtures("no_figures")
def test_checkpoint_rebuilds_the_module_and_its_preprocessing(compose, competition: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    runs.train_run(compose("task=age", "finetune=none", "finetune.epochs=1"), folder.path)
    module = SingleTaskModule.load_from_checkpoint(folder.best, weights_only=True, map_location="cpu").eval()
    assert dict(module.hparams["tasks"]) == {"age": ["<30", "30-59", ">=60"]}
    assert module.hparams["config"]["task"] == {"tasks": ["age"]}
    spec = TransformSpec.from_plain(module.hparams["transform"])
    assert (spec.crop_height, spec.crop_width, spec.size) == (96, 64, 32)
    photo = open_photo(next(competition.rglob("normal.*")))
    image = normalise(to_uint8(eval_pipeline(spec)(photo))[None], spec.mean, spec.std)
    assert module(image)["age"].shape == (1, 3)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("recipe", "at"),
    [
        (("optim=adamw", "schedule=one_cycle"), 2),  # in the first epoch
        (("optim=adamw", "schedule=one_cycle"), 8),  # in the second epoch of the frozen phase
        (("optim=ranger", "schedule=flat_cosine", "averaging=ema", "weighting=uncertainty"), 18),  # in the second phase
        (("mix=cutmix", "data.balanced_by=[age]", "loss.class_weights=balanced", "weighting=dwa"), 18),
    ],
)
def test_interrupted_run_goes_on_as_if_nothing_had_happened(
    compose, tmp_path: Path, monkeypatch, capsys, recipe, at: int
) -> None:
    phases = ("finetune.phases.0.unfreeze.last=1", "finetune.frozen_epochs=2", "finetune.epochs=2")
    settings = compose(*recipe, *FEW_PEOPLE, *phases)
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    runs.train_run(settings, whole.path)
    with monkeypatch.context() as patch:
        interrupt(patch, at, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            runs.train_run(settings, cut.path)
    assert cut.read_result().status == "interrupted"
    assert cut.last.is_file()
    assert f"resume={cut.path}" in capsys.readouterr().err.replace("\n", "")
    result = runs.resume_run(cut.path, [f"resume={cut.path}"])
    assert result.status == "finished"
    pd.testing.assert_frame_equal(pd.read_csv(cut.metrics), pd.read_csv(whole.metrics), check_exact=True)
    for part in {"state_dict", "current_model_state"} & set(torch.load(whole.last, weights_only=True)):
        expected = weights_of(whole.last, part)
        for name, tensor in weights_of(cut.last, part).items():
            assert torch.equal(tensor, expected[name]), (part, name)


class Killed(BaseException):
    """As SIGKILL: nothing that follows is saved."""


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    "recipe",
    [
        ("trainer.accumulate=2", "model.drop_rate=0.5", "loss.label_smoothing=0.1", "data.num_workers=1"),
        ("optim=ranger", "averaging=ema", "weighting=dwa", "mix=cutmix", "trainer.validate_every=2"),
        ("data.val_fraction=0", "weighting=uncertainty", "data.balanced_by=[age]", "trainer.max_batches=4"),
    ],
)
def test_a_run_killed_in_the_middle_of_epochs_ends_as_the_whole_one(
    compose, tmp_path: Path, monkeypatch, recipe
) -> None:
    phases = ("finetune.phases.0.unfreeze.last=1", "finetune.frozen_epochs=2", "finetune.epochs=2")
    settings = compose(*recipe, *FEW_PEOPLE, *phases, "checkpoint.every_minutes=1e-9")
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    pl.seed_everything(0)
    runs.train_run(settings, whole.path)
    steps = torch.load(whole.last, weights_only=True)["global_step"]
    for at in sorted({0, 1, 3, steps // 4 + 1, steps // 2, steps // 2 + 1, steps - 2, steps - 1}):
        with monkeypatch.context() as patch:
            interrupt(patch, at, Killed())
            pl.seed_everything(0)
            with pytest.raises(Killed):
                runs.resume_run(cut.path) if cut.last.exists() else runs.train_run(settings, cut.path)
        assert torch.load(cut.last, weights_only=True)["global_step"] == at
    assert runs.resume_run(cut.path).status == "finished"
    pd.testing.assert_frame_equal(pd.read_csv(cut.metrics), pd.read_csv(whole.metrics), check_exact=True)
    assert differences(cut.best, whole.best) == []
    assert differences(cut.last, whole.last) == []


def test_a_bug_is_recorded_and_raised(compose, tmp_path: Path, monkeypatch) -> None:
    interrupt(monkeypatch, 1, ZeroDivisionError("of course"))
    with pytest.raises(ZeroDivisionError):
        runs.train_run(compose("finetune=none", "finetune.epochs=1"), tmp_path / "run")
    result = RunFolder(tmp_path / "run").read_result()
    assert (result.status, result.error) == ("failed", "ZeroDivisionError: of course")


def test_a_loss_that_is_no_number_ends_the_run_and_names_its_photos(compose, tmp_path: Path, monkeypatch) -> None:
    step = MultiTaskModule.training_step
    monkeypatch.setattr(MultiTaskModule, "training_step", lambda *batch: step(*batch) * float("nan"))
    settings, folder = compose("finetune=none", "finetune.epochs=1"), RunFolder(tmp_path / "run")
    with pytest.raises(DivergedError, match="found NaN or infinity in epoch 1"):
        runs.train_run(settings, folder.path)
    assert folder.read_result().status == "failed"
    assert all(Path(path).is_file() for path in pd.read_csv(folder.path / "not_finite.csv")["path"])
    assert all(tensor.isfinite().all() for tensor in weights_of(folder.last).values())


def test_run_folder_is_never_overwritten(compose, tmp_path: Path) -> None:
    settings = compose("finetune=none", "finetune.epochs=1", "trainer.max_batches=1")
    runs.train_run(settings, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(RunFolderError, match="already holds a run"):
        runs.train_run(settings, tmp_path / "run")
    with pytest.raises(RunFolderError, match="is finished"):
        runs.resume_run(tmp_path / "run")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


@pytest.mark.usefixtures("no_figures")
def test_resume_takes_no_other_options_and_no_other_photos(compose, tmp_path: Path, monkeypatch) -> None:
    settings = compose("finetune=none", "finetune.epochs=1")
    with monkeypatch.context() as patch:
        interrupt(patch, 0, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            runs.train_run(settings, tmp_path / "run")
    with pytest.raises(ConfigError, match="found seed=3 beside it"):
        runs.resume_run(tmp_path / "run", ["resume=run", "seed=3"])
    record = RunFolder(tmp_path / "run").read_result()
    RunFolder(tmp_path / "run").update_result(data={**record.data, "fingerprint": "of other photos"})
    with pytest.raises(RunFolderError, match=r"the photos that .* was trained on, found others; restore them"):
        runs.resume_run(tmp_path / "run")
    with pytest.raises(RunFolderError, match="expected the config of a run"):
        runs.resume_run(tmp_path / "nothing")


def test_an_age_as_a_number_is_drawn_and_its_bias_recorded(compose, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    # This seed leaves people of 29, 30, 59 and 60 years on the training side.
    result = runs.train_run(
        compose("head=regression", "finetune=none", "finetune.epochs=1", "data.split_seed=1"), folder.path
    )
    assert (folder.path / "age_scatter.png").is_file()
    kept = torch.load(folder.best, weights_only=True)["hyper_parameters"]
    assert kept["network"]["heads"] == {"age": {"name": "regression", "top": 60.0, "borders": [29.5, 59.5]}}
    history = pd.read_csv(folder.metrics)
    for name in ("mae", "bias/<30", "bias/30-59", "bias/>=60"):
        assert result.best[f"val/age/{name}"] == pytest.approx(history[f"val/age/{name}"].iloc[0], abs=1e-4)
    assert json.loads(folder.result.read_text())["best"]["val/age/bias/>=60"] < 0, "an untrained sigmoid says 30"


def test_nobody_held_out_keeps_the_last_model(compose, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    settings = compose("data.val_fraction=0", "finetune=none", "finetune.epochs=3", "optim.lr=0.05")
    result = runs.train_run(settings, folder.path)
    assert (result.monitor, result.best_epoch) == ("clean_train/f1", 3)
    assert not any(name.startswith("val/") for name in result.best)
    best, last = weights_of(folder.best), weights_of(folder.last)
    assert all(torch.equal(best[name], last[name]) for name in last)


def test_single_task_scores_are_its_own(compose, tmp_path: Path) -> None:
    result = runs.train_run(compose("task=gender", "finetune=none", "finetune.epochs=1"), tmp_path / "run")
    assert result.best["val/f1"] == result.best["val/gender/f1"]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("model", ["", "optim=ranger"])
def test_training_learns(compose, tmp_path: Path, model: str) -> None:
    options = [
        "task=mask",
        "finetune=none",
        "finetune.epochs=6",
        "optim.lr=0.01",
        "augment=none",
        *filter(None, [model]),
    ]
    runs.train_run(compose(*options), tmp_path / "run")
    loss = pd.read_csv(tmp_path / "run" / "metrics.csv")["clean_train/loss"].to_numpy()
    assert loss[-1] < 0.7 * loss[0]


@pytest.mark.usefixtures("no_figures")
def test_same_seed_same_run(compose, tmp_path: Path) -> None:
    short = (*FEW_PEOPLE, "finetune=none", "finetune.epochs=1")
    settings = compose(*short, "data.num_workers=0")
    workers = compose(*short, "data.num_workers=2")
    other = compose(*short, "seed=1", "data.split_seed=0")
    scores = [
        runs.train_run(each, tmp_path / str(i)).best for i, each in enumerate((settings, settings, workers, other))
    ]
    assert scores[0] == scores[1] == scores[2]
    assert scores[0] != scores[3]


def test_validation_at_the_end_only(compose, tmp_path: Path) -> None:
    settings = compose("finetune=none", "finetune.epochs=3", "trainer.validate_every=end")
    runs.train_run(settings, tmp_path / "run")
    scored = pd.read_csv(tmp_path / "run" / "metrics.csv")["val/f1"].notna()
    np.testing.assert_array_equal(scored, [False, False, True])


@pytest.mark.usefixtures("no_figures")
def test_a_schedule_counts_optimizer_steps_not_batches(compose, tmp_path: Path) -> None:
    """10 batches are 4 steps: after each epoch the lr is that of the next step, by one-cycle's formula."""
    phases = ["finetune.phases.0.unfreeze.last=1", "finetune.frozen_epochs=1", "finetune.epochs=2", "optim.lr=0.01"]
    loader = ["data.batch_size=12", "trainer.max_batches=10", "trainer.accumulate=3", "augment=none"]
    settings = compose(*phases, *loader, "schedule.pct_start=0.5", "logger=csv")
    runs.train_run(settings, tmp_path / "run")
    history = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert history["step"].tolist() == [4, 8, 12]
    top, end = 0.2 * 0.01, 0.2 * 0.01 / 1e5
    last = end + (top - end) * (1 + np.cos(np.pi * (7 / 8 - 0.5) / 0.5)) / 2
    np.testing.assert_allclose(history["lr/heads"], [top / 25, top, last])
    logged = pd.read_csv(next((tmp_path / "run").glob("steps/*/metrics.csv")))
    assert {"lr/stem", "lr/stem.no_decay", "lr/heads"} <= set(logged)


@pytest.mark.usefixtures("no_figures")
def test_the_average_is_what_is_scored_and_predicted_with(compose, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    runs.train_run(compose("averaging=ema", "finetune=none", "finetune.epochs=1", "augment=none"), folder.path)
    trained = load_trained(folder.path, torch.device("cpu")).module
    kept = {key: weights_of(folder.best, key) for key in ("state_dict", "current_model_state")}
    name = next(name for name, _ in trained.named_parameters())
    assert torch.equal(trained.state_dict()[name], kept["state_dict"][name])
    assert not torch.equal(kept["state_dict"][name], kept["current_model_state"][name])


def test_a_run_without_patience_left_ends_as_a_whole_run(compose, tmp_path: Path, capsys) -> None:
    folder = RunFolder(tmp_path / "run")
    options = ["checkpoint.patience=1", "finetune=none", "finetune.epochs=6", "checkpoint.monitor=val/loss"]
    result = runs.train_run(compose(*options, "optim.lr=1e-9", "trainer.max_batches=2"), folder.path)
    history = pd.read_csv(folder.metrics)
    misses = history["val/loss"] >= history["val/loss"].cummin().shift(fill_value=np.inf)
    assert misses.tolist() == [False] * (len(history) - 1) + [True]
    assert len(history) < 6
    assert (result.status, result.best_epoch) == ("finished", len(history) - 1)
    assert (folder.path / "curves.png").is_file()
    with pytest.raises(RunFolderError, match="is finished"):
        runs.resume_run(folder.path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["finetune=two_phase", "finetune.phases.0.unfreeze.last=99"], "expected 1 to"),
        (["finetune.phases.0.unfreeze=[blok1]"], "did you mean block1"),
        (["optim.lr=0.1", "+optim.nestrov=true", "optim=sgd"], "did you mean nesterov"),
        (["+schedule.pct_strat=0.3"], "did you mean pct_start"),
        (["model.backbone=resnet43"], "did you mean .*resnet"),
    ],
)
def test_what_cannot_be_is_refused_before_training(compose, tmp_path: Path, overrides, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        runs.train_run(compose("finetune=none", *overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def no_collection():
    """Switch the garbage collector off: Python ignores what a signal raises in its callbacks (Hypothesis has one)."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("cache", ["on", "off"])
@pytest.mark.parametrize(("number", "stop"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_while_photos_are_prepared_leaves_a_record(
    compose, tmp_path: Path, monkeypatch, cache: str, number: int, stop: type[BaseException]
) -> None:
    decoded: list[str] = []

    def decode(path: str, *args: Any) -> Decoded:
        decoded.append(path)
        if len(decoded) == 5:
            signal.raise_signal(number)
        return decode_photo(path, *args)

    for module in ("prepared", "images"):
        monkeypatch.setattr(f"mask_lightning.data.{module}.decode_photo", decode)
    settings = compose("finetune=none", "data.num_workers=0", f"data.cache={cache}")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as stopped:
        runs.train_run(settings, tmp_path / "run", ["finetune=none"])
    assert stopped.type is stop
    assert signal.getsignal(signal.SIGTERM) == before
    folder = RunFolder(tmp_path / "run")
    result = folder.read_result()
    assert (result.status, result.overrides, result.best) == ("interrupted", ["finetune=none"], {})
    assert folder.read_config()["data"]["cache"] == cache
    assert not list(tmp_path.glob("cache/.*"))
    with pytest.raises(RunFolderError, match=r"expected a checkpoint at .*; start the run anew"):
        runs.resume_run(tmp_path / "run")


SLOW_START = """
import sys, time
from pathlib import Path
from mask_lightning.data import prepared
from mask_lightning.train import TrainSettings, main, run_command
decode = prepared.decode_photo
def slowly(*args):
    Path("decoding").touch()
    time.sleep(0.2)
    return decode(*args)
prepared.decode_photo = slowly
run_command("train", TrainSettings, main)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked, so they decode slowly, too")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_all_processes_while_workers_decode(
    competition: Path, tmp_path: Path, number: int, code: int
) -> None:
    options = [*TINY, f"data.root={competition}", "data.num_workers=2", "finetune=none", "hydra.run.dir=run"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_START, *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    for _ in range(600):
        if (tmp_path / "decoding").exists():
            break
        time.sleep(0.1)
    os.killpg(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert "Traceback" not in error
    assert RunFolder(tmp_path / "run").read_result().status == "interrupted"


def test_a_launchers_handler_of_sigterm_stays(compose, tmp_path: Path, monkeypatch) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        monkeypatch.setattr(runs, "prepare_run", lambda _: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(AttributeError):  # there is no run to fit
            runs.train_run(compose("finetune=none"), tmp_path / "run")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
    assert not (tmp_path / "run").exists()


@pytest.fixture
def photo_table(competition: Path, tmp_path: Path) -> Path:
    """The competition folder as a CSV: colour (by person) and cover, of which many photos lack one or both."""
    rng = np.random.default_rng(0)
    rows = []
    for photo in sorted((competition / "train" / "images").glob("*/[!.]*.*")):
        person, gender, _, _ = photo.parent.name.split("_")
        cover = {"normal": "no", "incorrect_mask": ""}.get(photo.stem, "yes")
        colour = "" if rng.random() < 0.3 else {"male": "blue", "female": "red"}[gender]
        rows.append((photo.relative_to(competition), person, colour, "" if rng.random() < 0.2 else cover, photo.stem))
    table = pd.DataFrame(rows, columns=["path", "person_id", "colour", "cover", "shot"])
    table.to_csv(tmp_path / "faces.csv", index=False)
    return tmp_path / "faces.csv"


@pytest.mark.parametrize("loss", ["cross_entropy", "balanced"])
def test_a_table_with_missing_labels_trains(compose, photo_table: Path, tmp_path: Path, loss: str) -> None:
    options = ["data=table", f"data.table={photo_table}", f"loss={loss}", "finetune=none", "finetune.epochs=4"]
    folder = RunFolder(tmp_path / "run")
    settings = compose(*options, "augment=none", "optim.lr=0.01", "data.batch_size=4")
    result = runs.train_run(settings, folder.path)
    history = pd.read_csv(folder.metrics)
    assert np.isfinite(history.to_numpy(float)).all()
    assert history["clean_train/loss"].iloc[-1] < 0.8 * history["clean_train/loss"].iloc[0]
    assert {"val/f1", "val/colour/f1", "val/cover/f1", "train/colour/loss"} <= set(history)
    module = MultiTaskModule.load_from_checkpoint(folder.best, weights_only=True, map_location="cpu")
    assert module.space.to_plain() == {"colour": ["blue", "red"], "cover": ["no", "yes"]}
    table = pd.read_csv(photo_table)
    counts = {task: sum(module.hparams["class_counts"][task]) for task in ("colour", "cover")}
    assert all(0 < counts[task] < table[task].notna().sum() for task in counts)
    assert (folder.path / "confusion_colour.png").is_file()
    assert result.data["root"] == str(settings.data.root)
    assert not result.data["drawn"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.tasks=[smlie]"], "expected a column smlie"),
        (["task.tasks=[shot]"], "names 'shot', but these photos have no labels for it"),
        (["labels.tasks={colour: [blue, green]}"], "colour has no class 'red'"),
        (["labels=face"], "expected a column mask"),
        (["+loss.task_weights.smlie=2"], "names 'smlie'"),
        (["checkpoint.monitor=val/colr/f1"], "did you mean val/colour/f1"),
        (["data.corrections={corrections}"], "corrects gender, which needs gender"),
    ],
)
def test_what_a_table_does_not_have_is_told(compose, photo_table: Path, tmp_path: Path, overrides, message) -> None:
    corrections = tmp_path / "corrections.csv"
    corrections.write_text("person_id,field,value\n000001,gender,male\n")
    changes = [override.replace("{corrections}", str(corrections)) for override in overrides]
    with pytest.raises(MaskLightningError, match=message):
        runs.train_run(compose("data=table", f"data.table={photo_table}", *changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_column_cannot_be_called_as_pytorch_calls_its_own(compose, photo_table: Path, tmp_path: Path) -> None:
    table = pd.read_csv(photo_table).rename(columns={"cover": "type"})
    table.to_csv(photo_table, index=False)
    with pytest.raises(LabelError, match=r"a task cannot be called 'type'.*rename its column"):
        runs.train_run(compose("data=table", f"data.table={photo_table}"), tmp_path / "run")


def test_a_table_is_resumed(compose, photo_table: Path, tmp_path: Path, monkeypatch) -> None:
    settings = compose("data=table", f"data.table={photo_table}", "finetune=none", "finetune.epochs=2")
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    runs.train_run(settings, whole.path)
    with monkeypatch.context() as patch:
        interrupt(patch, 5, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            runs.train_run(settings, cut.path)
    assert runs.resume_run(cut.path).best == whole.read_result().best


def test_inspect_trains_nothing(compose, tmp_path: Path, capsys) -> None:
    runs.inspect_run(compose("finetune.phases.0.unfreeze.last=2"))
    shown = capsys.readouterr().out
    assert "frozen" in shown
    assert "GFLOPs" in shown
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".thumbnails"}  # no run folder


@pytest.mark.gpu
def test_mixed_precision_with_ranger_and_resume(compose, tmp_path: Path, monkeypatch) -> None:
    settings = compose("trainer.accelerator=gpu", "optim=ranger", "finetune=none", "finetune.epochs=3")
    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt(patch, 20, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            runs.train_run(settings, folder.path)
    assert runs.resume_run(folder.path).status == "finished"
    checkpoint = torch.load(folder.last, weights_only=True)
    assert "MixedPrecision" in checkpoint  # the GradScaler's state
    assert np.isfinite(pd.read_csv(folder.metrics)["train/loss"]).all()


@pytest.mark.usefixtures("no_figures")
def test_a_finished_run_may_keep_one_small_checkpoint(compose, tmp_path: Path, monkeypatch) -> None:
    fixed = ("averaging=ema", "finetune=none", "finetune.epochs=2", "trainer.max_batches=2")
    whole, kept = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "kept")
    runs.train_run(compose(*fixed), whole.path)

    def power_cut(path: Path, *, half: bool) -> None:
        keep_weights(path, half=half)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(runs, "keep_weights", power_cut)
        with pytest.raises(SystemExit):
            runs.train_run(compose(*fixed, "checkpoint.keep=best", "checkpoint.half=true"), kept.path)
    assert kept.read_result().status == "running"
    assert runs.resume_run(kept.path).best == whole.read_result().best
    assert [path.name for path in kept.best.parent.iterdir()] == ["best.ckpt"]
    found, wanted = (load_trained(run.path, torch.device("cpu")).module for run in (kept, whole))
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}
    for name, tensor in wanted.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=2**-11, atol=2**-24)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("val_fraction", "keep"), [(0, "best"), (0, "both"), (0.25, "both")])
def test_the_last_epoch_is_scored_and_kept(compose, tmp_path: Path, val_fraction: float, keep: str) -> None:
    """Three epochs, validated every two: the third is the model of a run that holds nobody out."""
    options = (f"data.val_fraction={val_fraction}", f"checkpoint.keep={keep}", "trainer.validate_every=2")
    folder = RunFolder(tmp_path / "run")
    settings = compose(*options, "finetune=none", "finetune.epochs=3", "trainer.max_batches=2", "augment=none")
    result = runs.train_run(settings, folder.path)
    np.testing.assert_array_equal(pd.read_csv(folder.metrics)["clean_train/f1"].notna(), [False, True, True])
    kept = torch.load(folder.best, weights_only=True)
    assert kept["best_score"]["epoch"] + 1 == kept["epoch"] + 1 == result.best_epoch
    assert kept["best_score"]["score"] == pytest.approx(result.score, abs=1e-6)
    if not val_fraction:
        assert (result.best_epoch, kept["global_step"]) == (3, 6)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("options", [(), ("optim.lr=auto",), ("trainer.accumulate=3",)])
def test_a_last_batch_of_one_photo_trains_at_32_pixels(compose, tmp_path: Path, options: tuple[str, ...]) -> None:
    photos = len(find_photos(compose()).split.train)
    size = next(size for size in range(8, photos) if photos % size == 1)
    settings = compose(f"data.batch_size={size}", "finetune=none", "finetune.epochs=1", *options)
    assert runs.train_run(settings, tmp_path / "run").status == "finished"
    steps = torch.load(RunFolder(tmp_path / "run").last, weights_only=True)["global_step"]
    assert steps == -(-(photos // size) // settings.trainer.accumulate)


@pytest.mark.usefixtures("no_figures")
def test_batches_of_one_photo_are_refused_where_batchnorm_fails(compose, tmp_path: Path) -> None:
    settings = compose("data.batch_size=1", "finetune=none", "finetune.epochs=1")
    with pytest.raises(ConfigError, match="BatchNorm needs more than one photo per batch"):
        runs.train_run(settings, tmp_path / "run")


def test_a_pruned_run_is_recorded_as_pruned_and_can_be_resumed(compose, tmp_path: Path, monkeypatch) -> None:
    settings, folder = compose("finetune=none", "finetune.epochs=3", *FEW_PEOPLE), RunFolder(tmp_path / "run")
    trial = FakeTrial(prunes_at=2)
    monkeypatch.setattr(runs, "current_trial", lambda _: trial)
    assert runs.train_run(settings, folder.path).status == folder.read_result().status == "pruned"
    assert (list(trial.reported), trial.described) == ([1, 2], [(folder.path, True)])
    again = FakeTrial()
    monkeypatch.setattr(runs, "current_trial", lambda _: again)
    assert runs.resume_run(folder.path).status == "finished"
    assert again.reported == {**trial.reported, 3: again.reported[3]}
    assert again.described == [(folder.path, False)]


class FakeTrial:
    """Trial of a search that notes what is reported."""

    monitor = "val/f1"

    def __init__(self, prunes_at: int | None = None) -> None:
        self.prunes_at, self.reported, self.described = prunes_at, {}, []

    def report(self, epoch: int, score: float) -> bool:
        self.reported.setdefault(epoch, round(score, 5))
        return epoch == self.prunes_at

    def describe(self, *, run: Path, pruned: bool) -> None:
        self.described.append((run, pruned))
