"""What every door that reads labelled photos can be told of them: where they are, and what their labels mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.labels import FACE, FACE_SETS, LabelSpace
from mask_lightning.settings.base import Count, Positive, Seed, Settings, Share

Crop = Annotated[int, Field(ge=8)] | None

ROOTS = {  # what data.root must be, for the kinds of data that need one
    "competition": "the folder that holds train/",
    "utkface": "the folder of the photos",
    "fairface": "the folder that holds fairface_label_train.csv, train/ and val/",
}


def _as_text(name: Any) -> Any:
    """A class called by a number stays that; `no` and `yes` in a YAML file are booleans, and refused."""
    return str(name) if isinstance(name, (int, float)) and not isinstance(name, bool) else name


class DataSettings(Settings):
    """Which photos, who is held out, and what becomes of a photo before augmentation."""

    name: Literal["auto", "competition", "table", "utkface", "fairface"]
    root: Path | None
    table: Path | None = None
    portraits: Positive
    corrections: Path | None
    agreed_by: Positive
    val_fraction: Share
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Count | None = None
    split_seed: Seed
    limit_people: Positive | None
    match_minority: bool = True
    on_bad_photo: Literal["error", "skip"] = "error"
    crop_height: Crop
    crop_width: Crop
    batch_size: Positive
    balanced_by: Annotated[list[str], Field(min_length=1)] | None = None
    clean_train_photos: Positive
    num_workers: Count | None
    cache: Literal["auto", "on", "off"] = "auto"
    cache_dir: Path | None = None
    device_augment: Literal["auto", "on", "off"] = "auto"

    @field_validator("cache", "device_augment", mode="before")
    @classmethod
    def _yaml_booleans(cls, value: Any) -> Any:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @model_validator(mode="before")
    @classmethod
    def _a_fold_is_the_share_held_out(cls, values: Any) -> Any:
        """So that nothing after this has to know which of the two was meant, and the run's config tells the truth."""
        folds = values.get("folds") if isinstance(values, Mapping) else None
        return {**values, "val_fraction": 1 / folds} if isinstance(folds, int) and folds > 1 else values

    @model_validator(mode="after")
    def _fold_is_one_of_folds(self) -> DataSettings:
        if self.folds is None and self.fold is not None:
            raise ValueError(f"data.fold={self.fold} needs data.folds, found null; set it to how many there are")
        if self.folds is not None and (self.fold is None or self.fold >= self.folds):
            found = "null" if self.fold is None else self.fold
            every = ",".join(map(str, range(self.folds)))
            raise ValueError(
                f"data.folds={self.folds} needs a data.fold of 0 to {self.folds - 1}, found {found}; "
                f"set it, or train them all: -m data.fold={every}"
            )
        return self

    @model_validator(mode="after")
    def _photos_are_named(self) -> DataSettings:
        if self.name in ROOTS and self.root is None:
            raise ValueError(f"data={self.name} needs data.root, found null; set it to {ROOTS[self.name]}")
        if self.name == "table" and self.table is None:
            raise ValueError("data=table needs data.table, found null; set it to a CSV with path and person_id")
        if self.name != "table" and self.table is not None:
            raise ValueError(f"data.table is what data=table reads, found it beside data={self.name}; add data=table")
        if (self.crop_height is None) != (self.crop_width is None):
            raise ValueError(
                f"data.crop_height and data.crop_width must both be pixels or both null, got {self.crop_height} and "
                f"{self.crop_width}; set both"
            )
        return self

    @property
    def split_options(self) -> dict[str, Any]:
        """The arguments of `data.splits.hold_out` that are options."""
        return {
            "val_fraction": self.val_fraction,
            "folds": self.folds,
            "fold": self.fold,
            "limit": self.limit_people,
            "seed": self.split_seed,
        }


Year = Annotated[int, Field(ge=0, le=120)]


class AgeSettings(Settings):
    """What the training photos alone are taught of ages; held-out people are scored on the true age bands."""

    train_cuts: Annotated[list[Annotated[int, Field(ge=1, le=120)]], Field(min_length=2, max_length=2)] | None = None
    leave_out: Annotated[list[tuple[Year, Year]], Field(min_length=1)] | None = None
    bin_width: Literal[2, 3, 5, 6, 10, 15, 30] | None = None  # no bin may lie across 30 or 60

    @model_validator(mode="after")
    def _rises(self) -> AgeSettings:
        if self.train_cuts and self.train_cuts[0] >= self.train_cuts[1]:
            raise ValueError(
                f"labels.age.train_cuts must rise, got {self.train_cuts}; write the first year of the second age band, "
                "then that of the third"
            )
        for low, high in self.leave_out or ():
            if low > high:
                raise ValueError(
                    f"labels.age.leave_out must be [from, to] in years, got [{low}, {high}]; turn it round"
                )
        return self


class LabelSettings(Settings):
    """The label space of data=table: FACE's, one written out, or inferred from the columns; and the ages taught."""

    name: Literal["face", "infer"] = "infer"
    tasks: dict[str, Annotated[list[Annotated[str, BeforeValidator(_as_text)]], Field(min_length=2)]] | None = None
    age: AgeSettings = AgeSettings()


class TaskSettings(Settings):
    """Which tasks of the label space the network learns; none named: all."""

    tasks: list[str] | None

    def choose(self, space: LabelSpace) -> LabelSpace:
        """The label space of the chosen tasks. Raises ConfigError for a task that it lacks."""
        for name in self.tasks or ():
            if name not in space.names:
                hint = did_you_mean(name, space.names)
                if name in FACE.names:
                    hint += " (python -m mask_lightning.mask_faces draws masks on faces)" if name == "mask" else ""
                raise ConfigError(f"task.tasks names {name!r}, which these photos are not labelled with; {hint}")
        return space.only(self.tasks or space.names)


def known_space(data: DataSettings, labels: LabelSettings) -> LabelSpace | None:
    """The label space of the photos, None where only their table tells it.

    Raises:
        ConfigError: labels are given to photos that have their own.
        LabelError: a task has less than two classes.
    """
    if data.name == "table":
        if labels.tasks is not None:
            return LabelSpace.from_plain(labels.tasks)
        return FACE if labels.name == "face" else None
    if labels.tasks is not None:
        raise ConfigError(f"labels.tasks are for data=table, found them beside data={data.name}; remove them")
    return FACE_SETS[data.name]
