"""From settings to photos, of every kind of data."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from red_faces import draw_face, install
from tiny_runs import prepared

from mask_lightning.errors import CacheError, ConfigError, DetectorError
from mask_lightning.labels import FACE
from mask_lightning.pipelines.photos import find_photos
from mask_lightning.pipelines.prepare import augments_on_device, choose_transform, open_cache, prepare_run
from mask_lightning.runs.photos import fingerprint

YEARS = (7, 25, 35, 45, 61, 75)


@pytest.fixture
def utkface(tmp_path: Path) -> Path:
    """Empty files: indexing decodes nothing."""
    root = tmp_path / "UTKFace"
    root.mkdir()
    for i in range(60):
        (root / f"{YEARS[i % 6]}_{i // 6 % 2}_{i % 5}_201701{i:02d}.jpg.chip.jpg").touch()
    return root


@pytest.fixture
def fairface(tmp_path: Path) -> Path:
    root = tmp_path / "FairFace"
    for side, count in (("train", 48), ("val", 12)):
        (root / side).mkdir(parents=True)
        lines = ["file,age,gender,race,service_test"]
        for i in range(count):
            (root / side / f"{i}.jpg").touch()
            band = ("03-Sep", "20-29", "30-39", "40-49", "60-69", "more than 70")[i % 6]
            lines.append(f"{side}/{i}.jpg,{band},{('Male', 'Female')[i // 6 % 2]},Black,True")
        (root / f"fairface_label_{side}.csv").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize("name", ["utkface", "fairface"])
def test_public_sets_have_gender_and_age_and_are_taken_whole(settings, request, name: str) -> None:
    root = request.getfixturevalue(name)
    chosen = settings(f"data={name}", f"data.root={root}", "data.limit_people=24")
    photos = find_photos(chosen)
    assert photos.space == FACE.only(["gender", "age"])
    assert (len(photos.split.train), len(photos.split.val)) == (24, 12)
    assert sorted(photos.split.val.groupby(["gender", "age"]).size()) == [2] * 6
    assert not photos.drawn
    spec = choose_transform(chosen)
    assert (spec.crop_height, spec.crop_width) == (None, None)


@pytest.mark.parametrize("name", ["utkface", "fairface"])
def test_public_sets_do_not_know_masks(settings, name: str) -> None:
    with pytest.raises(ConfigError, match=r"names 'mask', .*choose from age, gender.*mask_faces draws masks"):
        settings(f"data={name}", "data.root=faces", "task=mask")


def test_the_competitions_photos_are_split_and_cropped_as_ever(settings, competition: Path) -> None:
    chosen = settings("data=competition", f"data.root={competition}", "data.val_fraction=0.25", "task=age")
    photos = find_photos(chosen)
    assert photos.space == FACE.only(["age"])
    assert photos.root == competition
    spec = choose_transform(chosen)
    assert (spec.crop_height, spec.crop_width) == (380, 256)
    all_tasks = find_photos(settings("data=auto", f"data.root={competition}", "data.val_fraction=0.25"))
    assert set(all_tasks.split.val["path"]) == set(photos.split.val["path"])  # whatever the task


def test_a_tables_people_are_split_by_what_is_theirs(settings, tmp_path: Path) -> None:
    lines = ["path,person_id,beard,smile"]
    for i in range(40):
        for shot in "ab":
            (tmp_path / f"{i}{shot}.jpg").touch()
            beard, smile = "yes" if i % 4 == 0 else "no", "yes" if shot == "b" else "no"
            lines.append(f"{i}{shot}.jpg,{i},{beard},{smile}")
    (tmp_path / "faces.csv").write_text("\n".join(lines))
    photos = find_photos(settings("data=table", f"data.table={tmp_path / 'faces.csv'}"))
    assert photos.space.to_plain() == {"beard": ["no", "yes"], "smile": ["no", "yes"]}
    held_out = photos.split.val.drop_duplicates("person_id")
    assert len(held_out) == 8
    assert held_out["beard"].sum() == 2


def test_folds_hold_out_every_person_once_and_say_which(settings, competition: Path) -> None:
    runs = [find_photos(settings(f"data.root={competition}", "data.folds=3", f"data.fold={i}")) for i in range(3)]
    held_out = [set(photos.split.val["path"]) for photos in runs]
    assert sum(map(len, held_out)) == len(set().union(*held_out)) == 24 * 7
    assert {fingerprint(photos.everyone) for photos in runs} == {fingerprint(runs[0].everyone)}
    described = runs[2].describe()
    assert (described["fold"], described["folds"], described["val"]["photos"]) == (2, 3, len(held_out[2]))


@pytest.mark.parametrize("member", ["age4", "mask3", "gender1", "balanced0"])
def test_a_member_learns_its_part_of_the_training_side_and_nobody_else(
    settings, competition: Path, member: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = [] if member != "balanced0" else ["task=gender"]
    # This seed holds out 000022, whose photos of two ages would make the shares differ.
    one = settings(f"data.root={competition}", f"member={member}", "data.split_seed=8", *task)
    with caplog.at_level("INFO"):
        photos = find_photos(one)
    data = prepared(one).build_data()
    name = photos.space.names[0]
    shares = data.split.train[name].value_counts(normalize=True)
    assert shares.max() - shares.min() < 0.01
    assert set(data.split.train["path"]) <= set(photos.split.train["path"])
    assert not set(data.split.train["family"]) & set(data.split.val["family"])
    assert photos.describe()["train"]["photos"] == len(data.split.train)
    assert f"member {member}: " in caplog.text
    assert f"of {photos.split.train['person_id'].nunique()} people" in caplog.text


def test_members_share_their_held_out_people_and_fingerprint(settings, competition: Path) -> None:
    runs = [find_photos(settings(f"data.root={competition}", f"member={member}")) for member in ("age0", "mask9")]
    assert runs[0].split.val["path"].tolist() == runs[1].split.val["path"].tolist()
    assert fingerprint(runs[0].everyone) == fingerprint(runs[1].everyone)


@pytest.mark.parametrize("wanted", [True, False])
def test_match_minority_reaches_the_subset(settings, competition: Path, wanted: bool, monkeypatch) -> None:
    asked: list[bool] = []

    def record(rows: pd.DataFrame, name: str, *, match_minority: bool, **options: Any) -> pd.DataFrame:
        asked.append(match_minority)
        return rows

    monkeypatch.setattr("mask_lightning.pipelines.photos.member_rows", record)
    find_photos(settings(f"data.root={competition}", "member=age0", f"data.match_minority={str(wanted).lower()}"))
    assert asked == [wanted]


def test_the_first_fold_is_what_the_same_share_holds_out(settings, competition: Path) -> None:
    folds = find_photos(settings(f"data.root={competition}", "data.folds=4", "data.fold=0", "data.val_fraction=0.9"))
    share = find_photos(settings(f"data.root={competition}", "data.val_fraction=0.25"))
    assert set(folds.split.val["path"]) == set(share.split.val["path"])
    assert "folds" not in share.describe()


@pytest.mark.parametrize(
    ("sizes", "found"),
    [("[{epochs: 1, image_size: 128}, {epochs: 1, image_size: 256}]", 256), ("[{epochs: 1, image_size: 225}]", 225)],
)
@pytest.mark.parametrize("size", ["model.image_size=224", "model.image_size=null"])  # null: what timm says, 224
def test_phases_do_not_enlarge_photos(settings, sizes: str, found: int, size: str) -> None:
    with pytest.raises(ConfigError, match=f"at most the model's 224, got {found}; .*model.image_size"):
        choose_transform(settings(f"finetune.phases={sizes}", size))


def test_the_loss_balances_what_balanced_sampling_leaves(settings, competition: Path) -> None:
    """With logit adjustment or class weights, too: a class that is drawn as often as others needs no more."""

    def counts(*overrides: str) -> tuple[list[float], list[float]]:
        chosen = settings(f"data.root={competition}", "data.val_fraction=0.25", "model=lite0", *overrides)
        run = prepared(chosen)
        with torch.device("meta"):
            module = run.build_module()
        return module.hparams["class_counts"]["age"], module.hparams["class_counts"]["mask"]

    age, mask = counts()
    assert mask == [sum(mask) * share / 7 for share in (5, 1, 1)]
    by_age, mask_of_those = counts("data.balanced_by=[age]")
    assert by_age == pytest.approx([sum(age) / 3] * 3)
    assert mask_of_those == pytest.approx(mask)
    for balanced in counts("data.balanced_by=[mask,gender,age]"):
        assert balanced == pytest.approx([sum(age) / 3] * 3)


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ([], "outputs/cache"),
        (["data.cache=on"], "outputs/cache"),
        (["data.cache_dir=elsewhere"], "elsewhere"),
        (["data.cache=off"], None),
    ],
)
def test_photos_are_kept_where_the_options_say(
    settings, competition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], want: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = settings(f"data.root={competition}", "model.image_size=32", "data.num_workers=0", *options)
    photos, spec = find_photos(chosen), choose_transform(chosen)
    cache = open_cache(chosen, photos, spec)
    found = sorted(path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.npy"))
    assert found == ([want] if want else [])
    if cache is None:
        assert want is None
    else:
        assert all(cache.find(path) is not None for path in photos.everyone["path"])
        assert replace(prepared(chosen), cache=cache).build_data().train_dataset().cache is cache


@pytest.mark.parametrize(
    ("options", "cuda", "want"),
    [
        ([], True, True),
        ([], False, False),
        (["trainer.accelerator=cpu"], True, False),
        (["data.device_augment=on", "trainer.accelerator=cpu"], False, True),
        (["data.device_augment=off"], True, False),
    ],
)
def test_photos_are_changed_where_a_gpu_trains_or_as_told(
    settings, monkeypatch: pytest.MonkeyPatch, options: list[str], cuda: bool, want: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert augments_on_device(settings(*options)) is want


@pytest.mark.parametrize("insisted", [False, True])
def test_where_there_is_no_room_only_an_insisted_cache_is_an_error(
    settings, competition: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, insisted: bool
) -> None:
    (tmp_path / "file").touch()
    options = [f"data.cache_dir={tmp_path / 'file' / 'cache'}", *(["data.cache=on"] if insisted else [])]
    chosen = settings(f"data.root={competition}", "model.image_size=32", "data.num_workers=0", *options)
    photos, spec = find_photos(chosen), choose_transform(chosen)
    if insisted:
        with pytest.raises(CacheError, match=r"set data\.cache_dir"):
            open_cache(chosen, photos, spec)
    else:
        assert open_cache(chosen, photos, spec) is None
        assert "going on without it" in caplog.text


@pytest.mark.parametrize("cache", ["on", "off"])
def test_photos_without_a_face_are_counted_named_and_recorded(
    settings, competition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog, cache: str
) -> None:
    faces, root = install(monkeypatch), Path(shutil.copytree(competition, tmp_path / "faces"))
    bare = sorted(root.rglob("normal.*"))
    for path in bare:
        draw_face((96, 128), (30, 40, 70, 80)).save(path)
    chosen = settings(
        *("data=competition", f"data.root={root}", "data.crop=face", f"data.cache={cache}"),
        *("data.num_workers=0", f"data.cache_dir={tmp_path}", "data.val_fraction=0"),
        *("model.backbone=test_resnet", "model.image_size=32", "trainer.progress=false", "finetune=none"),
    )
    with caplog.at_level(logging.WARNING):
        run = prepare_run(chosen)
    assert len(faces.sizes) == 168
    assert len(run.photos.without_face) == 168 - len(bare) == 144
    assert not [name for name in run.photos.without_face if "normal" in name]
    assert "144 of 168 photos have no detected face, the middle of the photo is used: " in caplog.text
    assert run.photos.describe()["without_face"] == list(run.photos.without_face)
    sizes = run.build_module().hparams["sizes"]
    assert list(sizes) == ["photo", "face", "face_share"]
    assert sizes["face"] == [pytest.approx(40, abs=2)] * 5


def test_the_sizes_of_other_crops_are_those_of_the_photos(settings, competition: Path, tmp_path: Path) -> None:
    options = [f"data.root={competition}", f"data.cache_dir={tmp_path}", "trainer.progress=false", "data.num_workers=0"]
    run = prepare_run(settings("data=competition", *options, "data.crop=share", "model.image_size=32"))
    assert run.sizes == {"photo": [pytest.approx((96 * 128) ** 0.5, abs=0.1)] * 5}
    assert "without_face" not in run.photos.describe()


def test_the_crop_needs_its_extra(settings, competition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    chosen = settings("data=competition", f"data.root={competition}", "data.crop=face")
    with pytest.raises(DetectorError, match=r"pip install 'mask_lightning\[faces\]'$"):
        choose_transform(chosen)
