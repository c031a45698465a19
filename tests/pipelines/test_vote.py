"""From real, tiny training runs to votes, soups and scores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score
from tiny_runs import ONE_EPOCH, TINY_RUN, settings_for, without_figures

from mask_lightning.data import images
from mask_lightning.data.index import read_index
from mask_lightning.ensemble.cross_fit import cross_fitted_decision, person_folds
from mask_lightning.errors import MaskLightningError
from mask_lightning.inference.predict import predict
from mask_lightning.inference.prediction_file import read_predictions
from mask_lightning.inference.submission import read_answers
from mask_lightning.inference.trained import load_trained
from mask_lightning.labels import FACE
from mask_lightning.metrics.calibration import fit_corrections
from mask_lightning.metrics.decisions import decide
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines import vote as vote_runs
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.inference import VoteSettings
from mask_lightning.settings.train import TrainSettings

TINY = (*TINY_RUN, *ONE_EPOCH, "data.split_seed=0", "trainer.max_batches=2")
MEMBERS = {  # two of age and of mask that start alike; the two of gender do not
    "age_a": ("task=age",),
    "age_b": ("task=age", "optim.lr=0.01"),
    "mask_a": ("task=mask",),
    "mask_b": ("task=mask", "optim.lr=0.01"),
    "gender_a": ("task=gender",),
    "gender_b": ("task=gender", "seed=1"),
}

Vote = Callable[..., Path]


def train(competition: Path, folder: Path, name: str, *overrides: str) -> None:
    """One of MEMBERS, without its pictures."""
    options = (*TINY, *MEMBERS[name], f"data.root={competition}", f"outputs={folder}", *overrides)
    with without_figures():
        runs.train_run(settings_for("train", TrainSettings, *options), folder / name)


@pytest.fixture(scope="module")
def sweep(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the six runs."""
    folder = tmp_path_factory.mktemp("sweep")
    for name in MEMBERS:
        train(competition, folder, name)
    return folder


@pytest.fixture
def vote(sweep: Path, tmp_path: Path) -> Vote:
    def vote(*overrides: str, names: tuple[str, ...] = (), out: str = "out") -> Path:
        places = ",".join(str(sweep / name) for name in names) or str(sweep)
        quiet = ("num_workers=0", "accelerator=cpu", "progress=false")
        vote_runs.vote(settings_for("vote", VoteSettings, f"runs=[{places}]", *quiet, *overrides), tmp_path / out)
        return tmp_path / out

    return vote


@pytest.fixture(scope="module")
def eval_root(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds eval/ with five photos."""
    folder = tmp_path_factory.mktemp("eval") / "eval" / "images"
    folder.mkdir(parents=True)
    found = sorted(path for path in competition.rglob("normal.*") if path.suffix in (".jpg", ".png"))[:5]
    for i, path in enumerate(found):
        Image.open(path).save(folder / f"{9 - i}.png")
    table = pd.DataFrame({"ImageID": [f"{9 - i}.png" for i in range(5)], "ans": 0})
    table.to_csv(folder.parent / "info.csv", index=False)
    return folder.parents[1]


@pytest.mark.usefixtures("rendered")
def test_everything_about_a_vote(vote, sweep: Path, eval_root: Path, monkeypatch, capsys) -> None:
    opened: list[str] = []
    real = images.decode_photo
    monkeypatch.setattr(
        "mask_lightning.data.prepared.decode_photo", lambda path, *args: opened.append(path) or real(path, *args)
    )
    out = vote(f"data.root={eval_root}", "soup=false")
    assert len(opened) == len(set(opened))  # six networks, and no photo twice
    record = json.loads((out / "vote.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert list(record["members"]) == sorted(MEMBERS)
    table = pd.read_csv(out / "members.csv")
    for row in table.itertuples():
        best = RunFolder(Path(row.folder)).read_result().best
        assert row.f1 == pytest.approx(best["val/f1"], abs=1e-6)  # the training's own score of the same people
        assert row.accuracy == pytest.approx(best["val/accuracy"], abs=1e-6)
        assert row.f1_low <= row.f1 <= row.f1_high
    held_out = read_predictions(out / "held_out.parquet", FACE)
    assert record["held_out"]["photos"] == len(held_out)
    assert record["held_out"]["people"] == held_out.photos["person_id"].nunique()
    scores = {(each["name"], each["task"]): each for each in record["held_out"]["scores"]}
    for task in FACE.tasks:
        truth, said = held_out.targets[task.name], held_out.preds[task.name]
        want = f1_score(truth, said, labels=range(task.num_classes), average="macro", zero_division=0)
        assert scores["hard vote", task.name]["f1"]["value"] == pytest.approx(want)
        pair = [scores[f"{task.name}_{which}", task.name]["f1"]["value"] for which in "ab"]
        assert scores["mean member", task.name]["f1"]["value"] == pytest.approx(np.mean(pair))
    joint = accuracy_score(FACE.encode(held_out.targets), held_out.codes)
    assert scores["hard vote", "joint"]["accuracy"]["value"] == pytest.approx(joint)
    assert ("best member of each task", "joint") in scores
    best = max(("age_a", "age_b"), key=lambda name: scores[name, "age"]["f1"]["value"])
    gains = {each["over"]: each["f1"] for each in record["held_out"]["gains"] if each["task"] == "age"}
    assert set(gains) == {best, "mean member"}
    answers = read_answers(out / "submission.csv")
    assert answers.image_ids == tuple(f"{9 - i}.png" for i in range(5))
    np.testing.assert_array_equal(answers.codes, read_predictions(out).codes)
    for name in ("agreement.png", "members.png"):
        assert (out / name).stat().st_size > 5000
    shown = capsys.readouterr()
    assert "two members agree on" in shown.out
    assert f"check_submission file={out} data.root={eval_root}" in shown.err


def test_the_kinds_of_vote(vote) -> None:
    """A hard vote of two members is a tie wherever they differ, and is then decided by the soft vote."""

    def said(out: str, *overrides: str) -> Any:
        return read_predictions(vote("soup=false", *overrides, names=("age_a", "age_b"), out=out)).preds["age"]

    np.testing.assert_array_equal(said("hard"), said("soft", "kind=soft"))
    first, second = (said(text[1], "kind=weighted", f"weights={text}") for text in ("[1,0]", "[0,1]"))
    record = json.loads((vote("soup=false", names=("age_a", "age_b")) / "vote.json").read_text())
    assert record["held_out"]["ties"]["hard"]["age"] == (first != second).sum()
    np.testing.assert_allclose(
        record["held_out"]["agreement"]["age"]["shares"][0][1], (first == second).mean(), atol=1e-4
    )


def test_the_next_command_votes_in_the_same_way(vote, sweep: Path, capsys) -> None:
    vote("soup=false", "kind=soft", "tta=flip", names=("age_a", "age_b"), out="as_scored")
    runs = f"[{sweep / 'age_a'},{sweep / 'age_b'}]"
    assert f"vote runs={runs} kind=soft tta=flip data.root=PHOTOS" in capsys.readouterr().err
    vote("soup=false", "kind=weighted", "weights=[1,0.5]", names=("age_a", "age_b"), out="weighted")
    assert "kind=weighted weights=[1.0,0.5] data.root=PHOTOS" in capsys.readouterr().err


def test_a_soup_of_members_that_started_alike(vote, sweep: Path) -> None:
    out = vote()
    record = json.loads((out / "vote.json").read_text())
    assert any("no soup for gender" in remark and "seeds" in remark for remark in record["remarks"])
    assert sorted(path.name for path in out.glob("*.ckpt")) == [
        f"soup_{task}_{recipe}.ckpt" for task in ("age", "mask") for recipe in ("greedy", "renewed", "uniform")
    ]
    states = [torch.load(RunFolder(sweep / f"age_{which}").best, weights_only=True)["state_dict"] for which in "ab"]
    soup = load_trained(out / "soup_age_uniform.ckpt", torch.device("cpu"))
    name = next(name for name in states[0] if name.endswith("heads.age.linear.weight"))
    torch.testing.assert_close(soup.module.state_dict()[name].contiguous(), (states[0][name] + states[1][name]) / 2)
    scores = {(each["name"], each["task"]): each["f1"]["value"] for each in record["held_out"]["scores"]}
    assert 0 <= scores["greedy soup", "age"] <= 1
    assert "soup_age_greedy.ckpt" in record["held_out"]["soups"]
    assert any("cross-fitted over 5 folds of the people" in remark for remark in record["remarks"])
    assert {("uniform soup", "mask"), ("best member, renewed", "mask")} <= set(scores)
    assert ("uniform soup", "joint") not in scores


def test_members_that_held_nobody_out(vote, sweep: Path, eval_root: Path, competition: Path, tmp_path: Path) -> None:
    for name in ("age_a", "age_b"):
        train(competition, tmp_path, name, "data.val_fraction=0")
    settings = ("num_workers=0", "accelerator=cpu", "progress=false", f"runs={tmp_path}", "submission=false")
    for overrides, message in (([], "nobody out"), ([f"data.root={eval_root}", "kind=weighted"], "set weights")):
        with pytest.raises(MaskLightningError, match=message):
            vote_runs.vote(settings_for("vote", VoteSettings, *settings, *overrides), tmp_path / "out")
    vote_runs.vote(settings_for("vote", VoteSettings, *settings, f"data.root={eval_root}"), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "vote.json").read_text())
    assert record["held_out"] is None
    assert "nobody out" in record["remarks"][0]
    assert len(read_predictions(tmp_path / "out")) == 5


def test_members_whose_photos_are_gone_vote_on_others(eval_root: Path, competition: Path, tmp_path: Path) -> None:
    shutil.copytree(competition, tmp_path / "photos")
    for name in ("age_a", "age_b"):
        train(tmp_path / "photos", tmp_path / "runs", name)
    shutil.rmtree(tmp_path / "photos")
    quiet = ("num_workers=0", "accelerator=cpu", "progress=false", "submission=false")
    options = [f"runs={tmp_path}/runs", *quiet, f"data.root={eval_root}"]
    vote_runs.vote(settings_for("vote", VoteSettings, *options), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "vote.json").read_text())
    assert record["held_out"] is None
    assert "photos of the members cannot be read" in record["remarks"][0]
    assert len(read_predictions(tmp_path / "out")) == 5
    for others in ([*options, "kind=soft", "decision=macro_f1"], options[:-1]):
        with pytest.raises(MaskLightningError, match="photos"):
            vote_runs.vote(settings_for("vote", VoteSettings, *others), tmp_path / "other")


def test_members_with_different_splits_vote_on_others_without_scores(
    eval_root: Path, competition: Path, tmp_path: Path
) -> None:
    for name, split in (("age_a", 0), ("age_b", 1)):
        train(competition, tmp_path / "runs", name, f"data.split_seed={split}")
    quiet = ("num_workers=0", "accelerator=cpu", "progress=false", "submission=false")
    options = [f"runs={tmp_path}/runs", *quiet, f"data.root={eval_root}", "kind=soft"]
    vote_runs.vote(settings_for("vote", VoteSettings, *options), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "vote.json").read_text())
    assert record["held_out"] is None
    assert record["remarks"][0].startswith("no scores: expected members with the same held-out people")
    voted = read_predictions(tmp_path / "out")
    members = [load_trained(tmp_path / "runs" / name, torch.device("cpu")) for name in ("age_a", "age_b")]
    probs = [predict(member, voted.photos, num_workers=0).probs["age"] for member in members]
    np.testing.assert_allclose(voted.probs["age"], np.mean(probs, axis=0), atol=1e-5)
    for others in (["kind=weighted"], ["decision=macro_f1"], ["data.root=null"]):
        with pytest.raises(MaskLightningError, match="same held-out people"):
            vote_runs.vote(settings_for("vote", VoteSettings, *options, *others), tmp_path / "other")


@pytest.mark.parametrize(
    ("names", "overrides", "message"),
    [
        (("age_a", "age_b"), (), "a submission takes members for mask, gender and age, found age only"),
        (("age_a",), ("submission=false",), r"two or more runs that answer one task, found age_a \(age\)"),
        (("age_a", "mask_a"), ("submission=false",), "two or more runs that answer one task"),
        (("age_a", "nowhere"), (), "expected runs at .*nowhere, found nothing"),
        (("empty",), (), "expected finished runs below .*empty, found none"),
        ((), ("kind=weighted", "weights=[1,2]"), "expected 6 weights, for age_a, age_b"),
    ],
)
def test_mistakes_are_told_before_a_photo_is_opened(
    vote, sweep: Path, eval_root: Path, tmp_path: Path, monkeypatch, names, overrides, message: str
) -> None:
    (sweep / "empty").mkdir(exist_ok=True)
    monkeypatch.setattr(vote_runs, "predict_many", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(MaskLightningError, match=message):
        vote(f"data.root={eval_root}", *overrides, names=names)
    assert not (tmp_path / "out").exists()


def test_a_truncated_checkpoint_is_named(vote, sweep: Path, tmp_path: Path) -> None:
    cut = RunFolder(shutil.copytree(sweep / "age_b", tmp_path / "cut"))
    cut.best.write_bytes(cut.best.read_bytes()[:-2000])
    with pytest.raises(MaskLightningError, match=r"^cannot read a checkpoint in \S*cut/checkpoints/best\.ckpt[^\n]*$"):
        vote(names=("age_a", str(cut.path)))
    assert not (tmp_path / "out").exists()


def test_a_broken_photo_is_one_line(vote, eval_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(eval_root, tmp_path / "broken")
    (root / "eval" / "images" / "7.png").write_bytes(b"no photo")
    with pytest.raises(MaskLightningError, match=r"^cannot decode \S*7\.png[^\n]*$"):
        vote(f"data.root={root}", "num_workers=1")
    assert not list((tmp_path / "out").iterdir())


def test_a_vote_is_never_overwritten(vote, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "vote.json").write_text("{}")
    with pytest.raises(MaskLightningError, match=r"already holds vote\.json"):
        vote()
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_the_soft_vote_is_calibrated_and_decided_on_its_held_out_people(vote: Vote, eval_root: Path) -> None:
    out = vote("kind=soft", "decision=macro_f1", "soup=false", f"data.root={eval_root}")
    held_out, voted = read_predictions(out / "held_out.parquet"), read_predictions(out)
    soft = replace(held_out, decisions=None)
    want = decide(replace(voted, decisions=None), fit_corrections(soft))
    np.testing.assert_array_equal(voted.codes, want.codes)
    np.testing.assert_array_equal(read_answers(out / "submission.csv").codes, want.codes)
    fold = person_folds(soft)
    assert fold is not None
    np.testing.assert_array_equal(held_out.codes, cross_fitted_decision(soft, fold).codes)
    record = json.loads((out / "vote.json").read_text())
    names = {(each["task"], each["name"]) for each in record["held_out"]["scores"]}
    assert ("joint", "soft vote, macro_f1") in names
    assert record["decision"] == "macro_f1"
    assert any(
        "scores of the weighted vote and decision=macro_f1 are cross-fitted" in line for line in record["remarks"]
    )


@pytest.fixture(scope="module")
def complementary(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two seeds, which have no soup: half of the people are labelled for mask, the others for gender."""
    folder = tmp_path_factory.mktemp("complementary")
    table = read_index(competition)
    has_mask = table["person_id"].isin(sorted(set(table["person_id"]))[::2])
    names = {task: table[task].map(dict(enumerate(FACE[task].classes))) for task in ("mask", "gender")}
    labels = table.assign(mask=names["mask"].where(has_mask, ""), gender=names["gender"].where(~has_mask, ""))
    labels[["path", "person_id", "mask", "gender"]].to_csv(folder / "labels.csv", index=False)
    data = ("data=table", f"data.table={folder / 'labels.csv'}", f"data.root={competition}", "labels=face")
    for seed in (0, 1):
        options = (*TINY, *data, "task.tasks=[mask,gender]", f"seed={seed}", f"outputs={folder}")
        with without_figures():
            runs.train_run(settings_for("train", TrainSettings, *options), folder / f"seed{seed}")
    return folder


def test_a_vote_on_complementary_labels_says_what_it_scores(vote: Vote, complementary: Path) -> None:
    out = vote(names=(str(complementary / "seed0"), str(complementary / "seed1")))
    record = json.loads((out / "vote.json").read_text())
    assert any("labelled for all tasks: the score of all tasks is the mean" in each for each in record["remarks"])
    assert any("no soup for mask, gender: they started from different seeds" in each for each in record["remarks"])
    values = {(each["task"], each["name"]): each["f1"]["value"] for each in record["held_out"]["scores"]}
    for name in ("soft vote", "weighted vote"):
        mean = np.mean([values[task, name] for task in ("mask", "gender")])
        assert values["mean of the tasks", name] == pytest.approx(mean)
    assert not {name for task, name in values if task == "joint"}
