"""The lines that a notebook types, on a tiny network and drawn patches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.metrics import f1_score
from tiny_runs import TINY_RUN, without_figures

from mask_lightning import notebook as ml
from mask_lightning.callbacks.lr_range_test import RangeTestResult
from mask_lightning.cli.compose import compose
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ConfigError, MaskLightningError, WeightsError
from mask_lightning.inference.trained import load_trained
from mask_lightning.optim.phases import group_lrs
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.repeated_fits import Data, Run
from mask_lightning.reports.figures import RED, ShownFigure
from mask_lightning.runs.folder import RunFolder
from mask_lightning.runs.photos import short_name
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings

FASTAI = {  # fine_tune(base_lr=2e-3) of fastai 2.8.12 on three layer groups: the largest lr of those that learn
    "base_lr": 0.002,
    "frozen_phase": {"heads": 0.002},
    "unfrozen_phase": {"first": 1e-05, "middle": 0.0001, "heads": 0.001},
}
TINY = (*TINY_RUN, "data.batch_size=16", "data.clean_train_photos=28")


@pytest.fixture(scope="module", autouse=True)
def no_run_figures() -> Iterator[None]:
    """Plot no figures of the runs; the tests of the commands check them."""
    with without_figures():
        yield


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def load(competition: Path, outputs: Path) -> Callable[..., Data]:
    return lambda *overrides, **options: ml.load_data(competition, *TINY, f"outputs={outputs}", *overrides, **options)


@pytest.fixture(scope="module")
def data(load) -> Data:
    return load()


@pytest.fixture(scope="module")
def trained(data: Data) -> tuple[MultiTaskModule, Run]:
    """Fitted once: not to be fitted further."""
    module = ml.build_module(data)
    return module, ml.fit_one_cycle(module, data, epochs=2, lr=5e-3)


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("fit", "typed"),
    [
        (
            lambda module, data: ml.fit_one_cycle(module, data, 1, slice(5e-4, 2e-3)),
            ("finetune=none", "finetune.epochs=1", "finetune.lr_ratio=4", "optim.lr=2e-3"),
        ),
        (
            lambda module, data: ml.fit_flat_cos(module, data, 1, pct_start=0.5, unfreeze={"last": 2}),
            (
                "finetune=none",
                "finetune.phases=[{epochs: 1, unfreeze: {last: 2}}]",
                "schedule=flat_cosine",
                "schedule.pct_start=0.5",
            ),
        ),
        (
            lambda module, data: ml.fine_tune(module, data, epochs=1, lr=3e-3),
            ("finetune=fastai", "finetune.epochs=1", "optim.lr=3e-3"),
        ),
    ],
    ids=["one_cycle", "flat_cos", "fine_tune"],
)
def test_a_first_fit_is_what_the_command_trains(data: Data, competition: Path, tmp_path: Path, fit, typed) -> None:
    run = fit(ml.build_module(data), data)
    config = compose("train", TrainSettings, [*TINY, f"data.root={competition}", f"outputs={tmp_path}", *typed])
    runs.train_run(check(TrainSettings, config), tmp_path / "run")
    assert same_weights(weights_of(run.folder.last), weights_of(RunFolder(tmp_path / "run").last))


def test_fine_tune_has_the_lrs_of_fastai(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = {}
    monkeypatch.setattr(ml, "fit", lambda module, data, **plan: planned.update(plan))
    ml.fine_tune(None, data, epochs=5, lr=FASTAI["base_lr"])
    settings = check(
        TrainSettings,
        {**data.settings.model_dump(mode="json"), "finetune": {"epochs": 6, "phases": planned["phases"]}},
    )
    assert [phase.epochs for phase in settings.finetune.phases] == [1, 5]
    frozen, whole = settings.finetune.phases
    assert group_lrs(frozen, ["first", "middle", "heads"], planned["lr"]) == pytest.approx(FASTAI["frozen_phase"])
    assert group_lrs(whole, ["first", "middle", "heads"], planned["lr"]) == pytest.approx(FASTAI["unfrozen_phase"])


def test_a_run_lies_where_the_commands_look_for_it(trained, data: Data, outputs: Path) -> None:
    _, run = trained
    assert run.folder.path.parent == outputs / "runs"
    record = json.loads(run.folder.result.read_text())
    assert record["status"] == "finished"
    assert record["weights"] == "from scratch"
    assert record["config_hash"] == ""  # no sweep may take it for a training from the start
    assert run.score == record["best"]["val/f1"]
    assert load_trained(run.folder.path, torch.device("cpu")).space == data.photos.space
    assert f"{run.score:.3f}" in repr(run)


def test_a_second_fit_goes_on_from_the_weights_of_the_first(data: Data) -> None:
    module = ml.build_module(data)
    first = ml.fit_one_cycle(module, data, epochs=1, lr=5e-3)
    frozen = ml.fit_one_cycle(module, data, epochs=1, lr=1e-3, unfreeze="heads")
    before, after = weights_of(first.folder.last), weights_of(frozen.folder.last)
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"heads"}
    assert frozen.result.weights == f"from scratch -> {first.folder.path}"
    seeds = [run.folder.read_config()["seed"] for run in (first, frozen)]
    assert seeds[0] != seeds[1]  # else it would see the same augmented photos again
    assert frozen.folder.read_config()["data"]["split_seed"] == first.folder.read_config()["data"]["split_seed"]
    assert frozen.folder.read_config()["optim"]["lr"] == 1e-3
    again = load_trained(frozen.folder.path, torch.device("cpu")).module
    assert again.hparams["phases"][0]["unfreeze"] == "heads"


def test_a_stopped_fit_of_weights_with_a_past_goes_on_as_a_run(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained_before() -> MultiTaskModule:
        module = ml.build_module(data)
        with torch.no_grad():
            module.network.heads["age"].linear.bias.add_(1.0)
        module.lineage.append("an earlier run")
        return module

    whole = ml.fit_flat_cos(trained_before(), data, epochs=2, lr=2e-3)
    module, step = trained_before(), MultiTaskModule.training_step

    def stopping(self: MultiTaskModule, batch, batch_idx: int):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(MultiTaskModule, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            ml.fit_flat_cos(module, data, epochs=2, lr=2e-3)
    stopped = RunFolder(Path(module.lineage[-1]))
    assert stopped.read_result().status == "interrupted"
    runs.resume_run(stopped.path)
    assert same_weights(weights_of(stopped.last), weights_of(whole.folder.last))


def test_a_range_test_leaves_no_trace(data: Data, outputs: Path) -> None:
    modules = ml.build_module(data), ml.build_module(data)
    runs_before = set((outputs / "runs").iterdir())
    found = ml.lr_find(modules[0], data, end_lr=1.0, num_steps=12, unfreeze="heads")
    assert found.lrs[0] == pytest.approx(1e-7)
    assert len(found.lrs) == 12 or found.stopped == "diverged"
    assert set((outputs / "runs").iterdir()) == runs_before
    fitted = [ml.fit_one_cycle(module, data, epochs=1, lr=np.float64(2e-3)) for module in modules]
    assert same_weights(*(weights_of(run.folder.last) for run in fitted))


def test_a_curve_is_drawn_with_what_it_suggests_or_why_it_suggests_nothing() -> None:
    lrs = tuple(np.geomspace(1e-5, 1, 100).tolist())
    losses = tuple((2 / (1 + np.exp(4 * (np.log10(lrs) + 3))) + 0.5 + np.array(lrs)).tolist())
    found = ml.plot_lr_range(RangeTestResult(lrs, losses, losses, 100, "completed", 0))
    labels = [text.get_text() for text in found.axes[0].get_legend().get_texts()]
    assert any(label.startswith("minimum") and "chosen" in label for label in labels)
    flat = ml.plot_lr_range(RangeTestResult(lrs, (1.0,) * 100, (1.0,) * 100, 100, "completed", 0))
    assert "flat" in flat.get_suptitle()


def test_predictions_are_those_that_the_score_counted(trained, data: Data) -> None:
    _, run = trained
    predictions = ml.get_preds(run)
    assert len(predictions) == len(data.photos.split.val)
    truth = data.photos.space.encode(dict(predictions.targets))
    score = f1_score(truth, predictions.codes, average="macro", labels=np.arange(18), zero_division=0)
    assert run.score == pytest.approx(score, abs=1e-6)


def test_results_show_truth_and_prediction_in_the_colour_of_an_error(trained, data: Data) -> None:
    _, run = trained
    figure = ml.show_results(run, photos=12)
    titles = [axis.title for axis in figure.axes if axis.has_data()]
    assert len(titles) == 12
    assert figure.get_suptitle().startswith("held-out people")
    for title in titles:
        truth, answer = title.get_text().split("\n")
        assert (title.get_color() == RED) == (truth != answer)


def test_a_batch_is_shown_with_its_labels(data: Data) -> None:
    figure = ml.show_batch(data)
    assert {axis.get_title() for axis in figure.axes if axis.has_data()} >= {"wear female <30", "normal male 30-59"}
    assert isinstance(figure, ShownFigure)
    assert figure._repr_png_().startswith(b"\x89PNG")  # what Jupyter asks for


def test_curves_are_drawn_from_what_the_run_recorded(trained) -> None:
    _, run = trained
    figure = ml.plot_curves(run)
    assert isinstance(figure, Figure)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[1].lines}
    assert len(lines["validation"]) == 2
    assert max(lines["validation"]) == pytest.approx(run.score)


@pytest.mark.parametrize("side", ["train", "val"])
def test_a_skipped_photo_stops_no_step(competition: Path, outputs: Path, tmp_path: Path, side: str) -> None:
    root = shutil.copytree(competition, tmp_path / "faces")
    data = ml.load_data(root, *TINY, f"outputs={outputs}", "data.on_bad_photo=skip", "augment=none", task="mask")
    broken = Path(getattr(data.photos.split, side)["path"].iloc[3])
    broken.write_bytes(b"no photo")
    drawn = sum(len(batch["index"]) for batch in data.loaders.train_dataloader())
    assert drawn > 100
    module = ml.build_module(data)
    ml.lr_find(module, data, end_lr=1.0, num_steps=10)
    run = ml.fit_one_cycle(module, data, epochs=1, lr=5e-3)
    assert run.result.data["skipped"] == [short_name(str(broken))]
    predictions = ml.get_preds(run)
    assert len(predictions) == len(data.photos.split.val) - (side == "val")
    assert str(broken) not in predictions.photos["path"].tolist()


def test_where_nobody_is_held_out_results_are_of_training_photos(load) -> None:
    data = load("data.val_fraction=0", task="mask")
    module = ml.build_module(data)
    assert list(module.network.heads) == ["mask"]
    run = ml.fit_one_cycle(module, data, epochs=1, lr=5e-3)
    assert len(ml.get_preds(run)) == 24 * 7
    assert "nobody was held out" in ml.show_results(run).get_suptitle()


def test_another_backbone_of_the_same_input_may_learn_from_the_same_photos(data: Data) -> None:
    module = ml.build_module(data, backbone="test_vit2")
    run = ml.fit_one_cycle(module, data, epochs=1, lr=5e-3)
    assert run.folder.read_config()["model"]["backbone"] == "test_vit2"
    assert load_trained(run.folder.path, torch.device("cpu")).source.backbone == "test_vit2"


def test_a_backbone_is_loaded_with_the_input_of_its_weights(competition: Path) -> None:
    data = ml.load_data(competition, backbone="test_vit", model="lite0")
    assert data.spec.size == 160
    assert data.settings.model.backbone == "test_vit"


def test_a_folder_is_named_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(MaskLightningError, match=r"a=b \{c\}"):
        ml.load_data(tmp_path / "a=b {c}")


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("augment.flop=1",), ("augment.flop", "did you mean augment.flip")),
        (("augment=randaugmen",), ("augment=randaugmen", "did you mean randaugment")),
        (("data.batch_size=0",), ("data.batch_size", "got 0")),
        (("model.backbone=resnet43",), ("resnet43", "did you mean resnet34")),
        (("task=beard",), ("task=beard", "age")),
    ],
)
def test_a_wrong_option_is_told_as_the_command_would(load, overrides, named) -> None:
    with pytest.raises(ConfigError) as raised:
        load(*overrides)
    assert all(words in str(raised.value) for words in named)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("fit", "options", "named"),
    [
        (ml.fine_tune, {"epochs": 0}, ("epochs", "at least 1", "got 0")),
        (ml.fine_tune, {"epochs": 1.5}, ("epochs", "whole number", "got 1.5")),
        (ml.fine_tune, {"epochs": 1, "freeze_epochs": 0}, ("freeze_epochs", "got 0")),
        (ml.fine_tune, {"epochs": 1, "lr": 0}, ("lr", "(0, 100]", "got 0")),
        (ml.fine_tune, {"epochs": 1, "lr": slice(1e-4, 1e-3)}, ("lr", "lr_mult")),
        (ml.fine_tune, {"epochs": 1, "lr_mult": 0.5}, ("lr_mult", "got 0.5")),
        (ml.fine_tune, {"epochs": 1, "pct_start": 2}, ("pct_start", "got 2")),
        (ml.fit_one_cycle, {"epochs": -1}, ("epochs", "got -1")),
        (ml.fit_one_cycle, {"epochs": 1, "lr": -1e-3}, ("lr", "got -0.001")),
        (ml.fit_one_cycle, {"epochs": 1, "lr": float("nan")}, ("lr", "got nan")),
        (ml.fit_one_cycle, {"epochs": 1, "lr": "auto"}, ("lr", "slice(low, high)", "got 'auto'")),
        (ml.fit_one_cycle, {"epochs": 1, "lr": slice(2e-3, 1e-4)}, ("slice(low, high)", "(0, 0.0001]", "got 0.002")),
        (ml.fit_one_cycle, {"epochs": 1, "lr": slice(2e-3)}, ("start of slice(low, high)", "got None")),
        (ml.fit_one_cycle, {"epochs": 1, "unfreeze": "block99"}, ("block99", "block")),
        (ml.fit_one_cycle, {"epochs": 1, "unfreeze": []}, ("unfreeze",)),
        (ml.fit_flat_cos, {"epochs": 1, "lr": 0}, ("lr", "got 0")),
        (ml.lr_find, {"num_steps": 9}, ("num_steps", "got 9")),
        (ml.lr_find, {"start_lr": 1, "end_lr": 0.1}, ("start_lr", "end_lr", "0.1")),
        (ml.fit_flat_cos, {"epochs": 1, "div_final": 0}, ("div_final", "got 0")),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_trained(trained, data: Data, fit, options, named) -> None:
    module, run = trained
    with pytest.raises(ConfigError) as raised:
        fit(module, data, **options)
    assert all(words in str(raised.value) for words in named), str(raised.value)
    assert module.lineage[-1] == str(run.folder.path)


def test_a_module_learns_only_from_photos_that_fit_it(trained, load) -> None:
    module, _ = trained
    with pytest.raises(ConfigError, match=r"learns .*gender.*data has .*age.*build_module\(data\)"):
        ml.fit_one_cycle(module, load(task="age"), epochs=1)
    with pytest.raises(ConfigError, match=r"size=32.*size=40.*build_module\(data\)"):
        ml.fit_one_cycle(module, load("model.image_size=40"), epochs=1)
    with pytest.raises(ConfigError, match=r"build_module.*got HardSharing"):
        ml.lr_find(module.network.sharing, load())


def test_a_backbone_that_cannot_be_had_is_refused(data: Data, load) -> None:
    with pytest.raises(ConfigError, match="did you mean resnet34"):
        ml.build_module(data, backbone="resnet43")
    with pytest.raises(ConfigError, match=r"resnet34 needs .*0\.485.*backbone='resnet34'"):
        ml.build_module(data, backbone="resnet34")
    with pytest.raises(WeightsError, match="nowhere"):
        ml.build_module(load("model.pretrained=nowhere.pth"))


@pytest.mark.parametrize("show", [ml.show_results, ml.plot_curves, ml.get_preds])
def test_there_is_nothing_to_show_before_a_fit(trained, show) -> None:
    with pytest.raises(ConfigError, match=r"fine_tune.*got SingleTaskModule|fine_tune.*got MultiTaskModule.*fit first"):
        show(trained[0])


def test_a_star_import_brings_the_functions_and_nothing_else() -> None:
    names: dict[str, object] = {}
    exec("from mask_lightning.notebook import *", names)
    functions = set(names) - {"__builtins__"}
    assert functions == set(ml.__all__)
    assert all(callable(names[name]) for name in functions)
