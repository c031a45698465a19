"""From settings to photos, of every kind of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from mask_lightning.assembly import find_photos, transform_spec
from mask_lightning.doors import config_dir
from mask_lightning.errors import ConfigError
from mask_lightning.labels import FACE
from mask_lightning.settings.checking import check
from mask_lightning.settings.train import TrainSettings

YEARS = (7, 25, 35, 45, 61, 75)


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., TrainSettings]:
    def compose(*overrides: str) -> TrainSettings:
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            composed = hydra.compose("train", [f"outputs={tmp_path / 'outputs'}", "hydra.run.dir=.", *overrides])
        config: Any = OmegaConf.to_container(composed, resolve=True)
        return check(TrainSettings, config)

    return compose


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
    spec = transform_spec(chosen)
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
    spec = transform_spec(chosen)
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
