"""Options of labelled photos: where they are, how they are split, and what their labels mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.labels import FACE, FACE_SETS, RESERVED, LabelSpace
from mask_lightning.settings.base import Count, Positive, Seed, Settings, Share

Crop = Annotated[int, Field(ge=8)] | None
CropShare = Annotated[float, Field(gt=0, le=1)] | None
CropMode = Literal["centre", "share", "face"]
COMPETITION_CROP = 380, 256  # height and width, the default of conf/data/competition.yaml
MARGIN = 0.25  # eyes to chin fill two thirds of the square, so that hair and chin are inside

CacheGb = Annotated[
    float, Field(gt=0, description="packed photos in S3: gigabytes that local copies of chunks may take")
]
CACHE_GB = 50.0

ROOTS = {  # description of data.root for the kinds of data that need one
    "competition": "the folder that holds train/",
    "utkface": "the folder of the photos",
    "fairface": "the folder that holds fairface_label_train.csv, train/ and val/",
    "folder": "the folder that holds one folder per class",
    "packed": "the folder or s3:// address that python -m mask_lightning.pack has written",
}


def _as_text(name: Any) -> Any:
    """Convert a class name that YAML read as a number; booleans, which it reads for no and yes, are refused later."""
    return str(name) if isinstance(name, (int, float)) and not isinstance(name, bool) else name


class DataSettings(Settings):
    """Photos, the split by person, the crop, and how photos are loaded."""

    name: Literal["auto", "competition", "folder", "packed", "table", "utkface", "fairface"] = Field(
        "auto", description="layout of the photos; set by data=NAME"
    )
    root: Path | None = Field(None, description="folder of the photos; never written to")
    table: Path | None = Field(None, description="data=table: the CSV")
    follow_symlinks: bool = Field(False, description="allow a CSV to list symlinks that lead out of the photos' folder")
    portraits: Positive = Field(60, description="people to draw if there is no root")
    corrections: Path | None = Field(None, description="CSV of label corrections")
    agreed_by: Positive = Field(1, description="apply only corrections on which this many reviewers agree")
    val_fraction: Share = Field(
        0.2,
        description="share of people held out for validation; 0 trains on everyone; data=folder holds out its val/",
    )
    folds: Annotated[int, Field(ge=2)] | None = Field(
        None, description="k: deal people into k folds and hold out one; val_fraction becomes 1/k"
    )
    fold: Count | None = Field(
        None, description="fold to hold out, 0 to k-1; -m data.folds=5 data.fold=0,1,2,3,4 is a cross-validation"
    )
    split_seed: Seed = Field(
        0, description="seed of the split; by default the run's seed", json_schema_extra={"composed": "${seed}"}
    )
    limit_people: Positive | None = Field(None, description="train on at most this many people, drawn after the split")
    match_minority: bool = Field(
        True,
        description="members of the age ensemble: match the number of people of 60 and over; false: use all",
    )
    on_bad_photo: Literal["error", "skip"] = Field(
        "error", description="skip: train without photos that cannot be decoded, up to 1 % of them"
    )
    crop: CropMode = Field(
        "centre",
        description="centre: pixels in the middle; share: a share of the photo in the middle; face: the detected face, "
        "turned upright (extra faces)",
    )
    crop_height: Crop = Field(
        None, description="crop=centre: height in pixels of the photo; null: the largest square in the middle"
    )
    crop_width: Crop = Field(None, description="see crop_height")
    share_height: CropShare = Field(
        None, description="crop=share, and crop=face where no face is found: share of the photo's height; null: all"
    )
    share_width: CropShare = Field(None, description="see share_height")
    margin: Annotated[float, Field(ge=0, le=2)] = Field(
        MARGIN, description="crop=face: share of the square of eyes, nose and mouth that is added on each side"
    )
    keep_aspect: bool = Field(
        False, description="crop=centre, share: extend the crop to a square instead of squashing it"
    )
    extra: Path | None = Field(
        None, description="table of further training photos with soft targets, as pseudo_label writes it"
    )
    extra_weight: Annotated[float, Field(gt=0, le=100)] = Field(
        1.0, description="factor of the weights of data.extra; a labelled photo has weight 1"
    )
    batch_size: Positive = Field(32, description="photos per training batch, of all devices together")
    balanced_by: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="[age]: draw training photos so that every class of these tasks (or combination) is as frequent",
    )
    two_per_person: bool = Field(
        False, description="put the photos of a person into the batches two by two, for loss.consistency"
    )
    clean_train_photos: Positive = Field(256, description="unaugmented training photos scored as clean_train/*")
    num_workers: Count | None = Field(None, description="processes that load photos; null: chosen from the cores")
    cache: Literal["auto", "on", "off"] = Field(
        "auto", description="decode photos once for all runs; on: an error if there is no room, auto: a warning"
    )
    cache_dir: Path | None = Field(
        None, description="folder of that cache, and of small thumbnails of all photos; null: cache below outputs"
    )
    cache_gb: CacheGb = CACHE_GB
    device_augment: Literal["auto", "on", "off"] = Field(
        "auto",
        description="on: RandAugment on batches on the device; off: on single photos on the CPU; auto: on for a GPU",
    )

    @field_validator("cache", "device_augment", mode="before")
    @classmethod
    def _yaml_booleans(cls, value: Any) -> Any:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @model_validator(mode="before")
    @classmethod
    def _a_fold_is_the_share_held_out(cls, values: Any) -> Any:
        """Set val_fraction to 1 / folds, so that later code and the recorded options have one value."""
        folds = values.get("folds") if isinstance(values, Mapping) else None
        return {**values, "val_fraction": 1 / folds} if isinstance(folds, int) and folds > 1 else values

    @model_validator(mode="before")
    @classmethod
    def _competition_crop_is_for_centre(cls, values: Any) -> Any:
        """Drop the pixels that conf/data/competition.yaml sets, so that data.crop alone chooses another crop."""
        pixels = ("crop_height", "crop_width")
        other = isinstance(values, Mapping) and values.get("crop", "centre") != "centre"
        if other and tuple(values.get(name) for name in pixels) == COMPETITION_CROP:
            return {**values, **dict.fromkeys(pixels)}
        return values

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

    @model_validator(mode="after")
    def _packed_photos_have_no_files(self) -> DataSettings:
        if self.name != "packed":
            return self
        for name in ("corrections", "agreed_by", "follow_symlinks", "extra", "cache", "on_bad_photo"):
            value, default = getattr(self, name), type(self).model_fields[name].default
            if value != default:
                raise ValueError(
                    f"data.{name} is for photos in files, found {value} beside data=packed; leave it out, or give it "
                    "when you pack the photos"
                )
        return self

    @model_validator(mode="after")
    def _weight_has_photos(self) -> DataSettings:
        if self.extra is None and self.extra_weight != 1:
            raise ValueError(
                f"data.extra_weight={self.extra_weight:g} is for data.extra, found null; set it to a table"
            )
        return self

    @model_validator(mode="after")
    def _crop_has_its_options(self) -> DataSettings:
        users = {
            "crop_height": ("centre",),
            "crop_width": ("centre",),
            "share_height": ("share", "face"),
            "share_width": ("share", "face"),
            "margin": ("face",),
            "keep_aspect": ("centre", "share"),
        }
        for name, modes in users.items():
            value, default = getattr(self, name), type(self).model_fields[name].default
            if value != default and self.crop not in modes:
                raise ValueError(
                    f"data.{name}={value} is for data.crop={' or '.join(modes)}, found data.crop={self.crop}; "
                    f"set it to {'null' if default is None else default}, the default, or set data.crop={modes[0]}"
                )
        return self

    @model_validator(mode="after")
    def _pairs_fit_batches(self) -> DataSettings:
        if self.two_per_person and self.balanced_by:
            raise ValueError(
                f"data.two_per_person=true uses every photo once per epoch, found data.balanced_by={self.balanced_by}, "
                "which does not; set that to null and balance the loss: loss=balanced"
            )
        if self.two_per_person and self.batch_size % 2:
            raise ValueError(
                f"data.two_per_person=true needs an even data.batch_size, got {self.batch_size}; "
                f"set it to {self.batch_size + 1}"
            )
        return self

    @property
    def is_drawn(self) -> bool:
        """True if the photos are portraits that are drawn, because no root is named."""
        return self.name == "auto" and self.root is None

    def cache_below(self, outputs: Path) -> Path:
        """Return the folder of the photo caches: `cache_dir`, or one in the folder of the outputs."""
        return self.cache_dir or outputs / "cache"

    def require_files(self, purpose: str) -> None:
        """Raise ValueError for packed photos, which a command cannot use that says its `purpose`."""
        if self.name == "packed":
            raise ValueError(f"{purpose}, found data=packed; name the original photos")

    @property
    def crop_options(self) -> dict[str, Any]:
        """Options as arguments of `data.transforms.TransformSpec`."""
        names = ("crop", "crop_height", "crop_width", "share_height", "share_width", "margin", "keep_aspect")
        return {name: getattr(self, name) for name in names}

    @property
    def split_options(self) -> dict[str, Any]:
        """Options as arguments of `data.splits.hold_out`."""
        return {
            "val_fraction": self.val_fraction,
            "folds": self.folds,
            "fold": self.fold,
            "limit": self.limit_people,
            "seed": self.split_seed,
        }


Year = Annotated[int, Field(ge=0, le=120)]


class AgeSettings(Settings):
    """Age targets of the training photos; held-out people are always scored on the true age bands."""

    train_cuts: Annotated[list[Annotated[int, Field(ge=1, le=120)]], Field(min_length=2, max_length=2)] | None = Field(
        None, description="[30, 58]: train on other age cuts, here 58 years counts as >=60"
    )
    leave_out: Annotated[list[tuple[Year, Year]], Field(min_length=1)] | None = Field(
        None, description="[[27, 29], [57, 59]]: train on nobody of these ages, both ends included"
    )
    # No bin may lie across 30 or 60.
    bin_width: Literal[2, 3, 5, 6, 10, 15, 30] | None = Field(
        None,
        description="10: ages are known by decade only (FairFace); a regression head learns the middle: 25, 35, ...",
    )

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
    """Label space of data=table and data=folder (FACE, written out, or inferred), and age targets."""

    name: Literal["face", "infer"] = Field(
        "infer", description="label space of data=table and data=folder; set by labels=NAME"
    )
    tasks: dict[str, Annotated[list[Annotated[str, BeforeValidator(_as_text)]], Field(min_length=2)]] | None = Field(
        None, description="the label space written out: {smile: [no, yes]}; in a file, quote no and yes"
    )
    age: AgeSettings = AgeSettings()


class TaskSettings(Settings):
    """Tasks of the label space that the network learns."""

    tasks: list[str] | None = Field(None, description="tasks that the network learns; null: all; set by task=NAME")

    def needed(self, space: LabelSpace | None) -> Sequence[str]:
        """Return the tasks that a table must have: the chosen ones, or all of a known label space."""
        return self.tasks or (space.names if space else ())

    def choose(self, space: LabelSpace) -> LabelSpace:
        """Return the label space of the chosen tasks. Raises ConfigError for a task without labels."""
        for name in self.tasks or ():
            if name not in space.names:
                hint = did_you_mean(name, space.names)
                if name in FACE.names:
                    hint += " (python -m mask_lightning.mask_faces draws masks on faces)" if name == "mask" else ""
                raise ConfigError(f"task.tasks names {name!r}, but these photos have no labels for it; {hint}")
        return space.only(self.tasks or space.names)


def known_space(data: DataSettings, labels: LabelSettings) -> LabelSpace | None:
    """Return the label space of the photos; None if only their table or folders define it.

    Raises:
        ConfigError: labels are given to photos that have their own.
        LabelError: a task has less than two classes.
    """
    if data.name == "packed":
        if labels.tasks is not None:
            raise ConfigError(
                "labels.tasks are for data=table and data=folder, found them beside data=packed; give them when you "
                "pack the photos"
            )
        return None
    if data.name in ("table", "folder"):
        if labels.tasks is not None:
            if data.name == "folder" and len(labels.tasks) > 1:
                raise ConfigError(
                    f"data=folder has labels of one task, found labels.tasks of {', '.join(labels.tasks)}; name one"
                )
            if reserved := sorted(RESERVED & set(labels.tasks)):
                raise ConfigError(f"labels.tasks names {reserved[0]}, which has another meaning; rename that task")
            return LabelSpace.from_plain(labels.tasks)
        face = FACE if data.name == "table" else FACE.only(["mask"])
        return face if labels.name == "face" else None
    if labels.tasks is not None:
        raise ConfigError(
            f"labels.tasks are for data=table and data=folder, found them beside data={data.name}; remove them"
        )
    return FACE_SETS[data.name]
