"""Options about photos and their labels."""

from __future__ import annotations

from typing import Any

import pytest

from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import ConfigError, LabelError
from mask_lightning.labels import FACE, FACE_SETS, LabelSpace, Task
from mask_lightning.settings.base import check
from mask_lightning.settings.data import MARGIN, DataSettings, LabelSettings, TaskSettings, known_space

DATA: dict[str, Any] = {
    "name": "auto",
    "root": None,
    "table": None,
    "portraits": 60,
    "corrections": None,
    "agreed_by": 1,
    "val_fraction": 0.2,
    "split_seed": 0,
    "limit_people": None,
    "crop_height": None,
    "crop_width": None,
    "batch_size": 32,
    "clean_train_photos": 256,
    "num_workers": None,
}


def data(**changes: Any) -> DataSettings:
    return check(DataSettings, {**DATA, **changes})


TABLE = data(name="table", table="faces.csv")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"name": "competition"},
            "data=competition needs data.root, found null; set it to the folder that holds train/",
        ),
        ({"name": "utkface"}, "data=utkface needs data.root, found null"),
        ({"name": "folder"}, "data=folder needs data.root, found null; .*one folder per class"),
        ({"name": "fairface"}, "data=fairface needs data.root, found null; .*fairface_label_train.csv"),
        ({"name": "table"}, "data=table needs data.table, found null"),
        ({"table": "faces.csv"}, "data.table is what data=table reads, found it beside data=auto; add data=table"),
        ({"fold": 1}, "data.fold=1 needs data.folds, found null; set it"),
        ({"folds": 3}, "data.folds=3 needs a data.fold of 0 to 2, found null; .* train them all: -m data.fold=0,1,2$"),
        ({"folds": 3, "fold": 3}, "data.folds=3 needs a data.fold of 0 to 2, found 3"),
        ({"folds": 3, "fold": -1}, "fold must be greater than or equal to 0, got -1"),
        ({"folds": 1, "fold": 0}, "folds must be greater than or equal to 2, got 1"),
        ({"folds": "many", "fold": 0}, "folds must be a valid integer.*, got 'many'"),
        ({"crop_height": 100}, "must both be pixels or both null, got 100 and None"),
        ({"crop": "middle"}, "crop must be 'centre', 'share' or 'face', got 'middle'"),
        ({"crop": "face", "crop_height": 9, "crop_width": 9}, "data.crop_height=9 is for data.crop=centre, .*=face"),
        ({"crop": "share", "crop_height": 380, "crop_width": 255}, "data.crop_height=380 is for data.crop=centre"),
        ({"share_width": 0.5}, "data.share_width=0.5 is for data.crop=share or face, .*; set it to null, .*=share"),
        ({"crop": "share", "share_height": 0}, "share_height must be greater than 0, got 0"),
        ({"crop": "share", "share_height": 1.1}, "share_height must be less than or equal to 1, got 1.1"),
        ({"crop": "share", "margin": 0.1}, "margin=0.1 is for data.crop=face, found data.crop=share; set it to 0.25"),
        ({"crop": "face", "margin": -0.1}, "margin must be greater than or equal to 0"),
        ({"crop": "face", "keep_aspect": True}, "data.keep_aspect=True is for data.crop=centre or share"),
        ({"crop_height": 7, "crop_width": 8}, "data.crop_height|crop_height must be greater than or equal to 8, got 7"),
    ],
)
def test_photos_that_are_not_named_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data(**changes)


@pytest.mark.parametrize("crop", ["share", "face"])
def test_the_pixels_of_the_competition_are_for_the_centre(crop: str) -> None:
    competition = {"crop_height": 380, "crop_width": 256}
    assert data(**competition).crop_height == 380
    other = data(**competition, crop=crop)
    assert (other.crop_height, other.crop_width) == (None, None)
    spec = TransformSpec(**data(crop=crop, share_height=0.5, share_width=0.4).crop_options)
    assert (spec.crop, spec.share_height, spec.share_width, spec.margin) == (crop, 0.5, 0.4, MARGIN)
    assert TransformSpec.from_plain(spec.to_plain()) == spec


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({}, 0.2),
        ({"folds": 5, "fold": 0}, 0.2),
        ({"folds": 4, "fold": 3, "val_fraction": 0.667}, 0.25),
        ({"folds": 2, "fold": 1, "val_fraction": 0}, 0.5),
    ],
)
def test_of_folds_one_is_the_share_held_out(changes: dict[str, Any], want: float) -> None:
    assert data(**changes).val_fraction == want


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        (LabelSettings(), None),
        (LabelSettings(name="face"), FACE.only(["mask"])),
        (LabelSettings(tasks={"smile": ["no", "yes"]}), LabelSpace((Task("smile", ("no", "yes")),))),
    ],
)
def test_class_folders_have_one_task(labels: LabelSettings, want: LabelSpace | None) -> None:
    settings = data(name="folder", root="photos")
    assert known_space(settings, labels) == want
    with pytest.raises(ConfigError, match=r"data=folder has labels of one task, found labels.tasks of a, b; name one"):
        known_space(settings, LabelSettings(tasks={"a": ["no", "yes"], "b": ["0", "1"]}))


@pytest.mark.parametrize("name", ["auto", "competition", "utkface", "fairface"])
def test_face_sets_have_their_own_labels(name: str) -> None:
    settings = data(name=name, root="photos")
    for labels in ("face", "infer"):
        assert known_space(settings, LabelSettings(name=labels)) == FACE_SETS[name]
    with pytest.raises(
        ConfigError, match=f"labels.tasks are for data=table and .*folder, found them beside data={name}"
    ):
        known_space(settings, LabelSettings(tasks={"smile": ["no", "yes"]}))


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        ({"name": "infer"}, None),
        ({"name": "face"}, FACE),
        ({"tasks": {"smile": ["no", "yes"]}}, LabelSpace((Task("smile", ("no", "yes")),))),
        ({"tasks": {"stars": [1, 2.5, "x"]}}, LabelSpace((Task("stars", ("1", "2.5", "x")),))),
    ],
)
def test_a_tables_labels_may_be_known_or_not(labels: dict[str, Any], want: LabelSpace | None) -> None:
    assert known_space(TABLE, check(LabelSettings, labels)) == want


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"smile": [False, True]}, "tasks.smile.0 must be a valid string, got False"),  # YAML's no and yes
        ({"smile": ["no"]}, "a list with at least 2 items"),
        ({"smile": "no"}, "a valid list"),
    ],
)
def test_classes_that_are_none_are_told(tasks: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(LabelSettings, {"tasks": tasks})


def test_a_class_named_twice_is_told() -> None:
    with pytest.raises(LabelError, match="name each class once"):
        known_space(TABLE, LabelSettings(tasks={"smile": ["no", "no"]}))


@pytest.mark.parametrize("tasks", [None, []])
def test_no_task_means_all(tasks: list[str] | None) -> None:
    assert TaskSettings(tasks=tasks).choose(FACE) == FACE


@pytest.mark.parametrize(
    ("tasks", "space", "message"),
    [
        (["ages"], FACE, "names 'ages', .*did you mean age"),
        (["smile"], FACE, "names 'smile', .*choose from age, gender, mask"),
        (["mask"], FACE_SETS["fairface"], "names 'mask', but these photos have no labels for it.*mask_faces draws"),
    ],
)
def test_a_task_that_the_photos_lack_is_told(tasks: list[str], space: LabelSpace, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TaskSettings(tasks=tasks).choose(space)


def test_tasks_keep_the_order_of_the_space() -> None:
    assert TaskSettings(tasks=["age", "mask"]).choose(FACE).names == ("mask", "age")


@pytest.mark.parametrize(("written", "want"), [("auto", "auto"), ("on", "on"), (True, "on"), (False, "off")])
def test_on_and_off_are_booleans_in_a_yaml_file(written: object, want: str) -> None:
    assert data(cache=written).cache == want


def test_a_cache_is_auto_on_or_off() -> None:
    with pytest.raises(ConfigError, match="cache must be 'auto', 'on' or 'off', got 'yes'"):
        data(cache="yes")


@pytest.mark.parametrize("name", ["side", "family", "photo"])
def test_a_task_cannot_have_the_name_of_another_column(name: str) -> None:
    with pytest.raises(ConfigError, match=f"labels.tasks names {name}, which has another meaning; rename that task"):
        known_space(TABLE, LabelSettings(tasks={name: ["a", "b"]}))
