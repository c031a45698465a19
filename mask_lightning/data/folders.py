"""Read photos in one folder per class into a sample table and a label space of one task.

Layouts: `<class>/1.jpg` or `<class>/<person>/1.jpg`, in the root or below `train/` and `val/` or `test/`, which then
are the sides of the split; and MaskedFace-Net, whose file names state the photo of FFHQ and how the mask is worn.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mask_lightning.data.images import describe_left_out, divide_files, is_litter, name_some
from mask_lightning.data.index import describe_folder
from mask_lightning.data.label_cells import find_target, name_key, natural_key
from mask_lightning.errors import DatasetNotFoundError, LabelError, SampleTableError, did_you_mean
from mask_lightning.labels import MASK, LabelSpace, Task
from mask_lightning.utils.files import find_path

log = logging.getLogger(__name__)

CLASS = "class"  # task of folders that are not named like mask states
SIDES = {  # names of the folders of a split, in any case
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
MASK_FOLDERS = {  # names of class folders, without case, spaces and punctuation
    "wear": (
        "wear", "worn", "wearing", "mask", "masked", "withmask", "wearingmask", "wearmask", "maskon", "facemask",
        "maskedface", "maskedfaces", "correctmask", "maskcorrect", "maskworncorrect", "maskworncorrectly",
        "maskwearedcorrect", "correctlymasked", "cmfd", "correctlymaskedfacedataset", "afdbmaskedfacedataset",
    ),
    "incorrect": (
        "incorrect", "incorrectmask", "incorrectlymasked", "maskincorrect", "maskwornincorrect", "wrongmask",
        "maskwornincorrectly", "maskwearedincorrect", "maskwearedincorrectly", "incorrectlyworn", "incorrectlywornmask",
        "withincorrectmask", "impropermask", "imfd", "incorrectlymaskedfacedataset",
    ),
    "normal": (
        "normal", "none", "bare", "unmasked", "notmasked", "withoutmask", "withoutmasks", "nomask", "nomasks",
        "maskoff",         "maskless", "bareface", "unmaskedface", "unmaskedfaces", "ffhq", "afdbfacedataset",
    ),
}  # fmt: skip
MASK_STATES = {name: state for state, names in MASK_FOLDERS.items() for name in names}
# Cabani et al. 2020, "MaskedFace-Net": 00000_Mask.jpg is worn; incorrect are 00000_Mask_Mouth_Chin.jpg and others.
MASKED_NAME = re.compile(r"(?P<id>\d{5})_Mask(?P<wrong>_Chin|_Mouth_Chin|_Nose_Mouth)?", re.IGNORECASE)
FFHQ_NAME = re.compile(r"\d{5}")


@dataclass(frozen=True)
class _Photo:
    """A photo, its class folder, the person by whom photos are grouped ("" if unknown), and its given side."""

    path: Path
    folder: str
    person: str
    side: str


@dataclass(frozen=True)
class ClassFolders:
    """Photos in one folder per class.

    Attributes:
        table: a sample table; with a given split it has the column `side`, "train" or "val".
        space: one task.
        people_known: False if each photo counts as a person, because no folder or file name states who it is.
    """

    table: pd.DataFrame
    space: LabelSpace
    people_known: bool


def read_folders(root: Path, *, space: LabelSpace | None = None) -> ClassFolders:
    """Index the photos in one folder per class, without decoding them; logs how folders and names are understood.

    Files with equal bytes in two classes are left out with a warning, because one of their labels is wrong.

    Args:
        root: folder of the class folders, or of `train/` and `val/` or `test/`. With all three, `test/` is not read.
        space: tasks, of which the folders are classes of one; None: `mask` if all names are known for a state of the
            mask (`MASK_FOLDERS`), else the task `class`. Only classes that have a folder belong to it.

    Raises:
        DatasetNotFoundError: there are no class folders.
        SampleTableError: a class folder is empty, there is only one, levels are mixed, or the sides have other classes.
        LabelError: a folder is no class of `space`.
    """
    root = find_path(root).resolve()
    sides = _find_sides(root)
    photos = [photo for side, folder in sides.items() for photo in _list_photos(folder, side)]
    names = _class_names(root, photos)
    _check_sides(sides, photos, names)
    task, targets = _find_task(root, sorted(set(names.values()), key=natural_key), space)
    photos = _without_contradictions(photos, {name: targets[of] for name, of in names.items()})
    _check_classes_left(root, photos, names)
    paths = [str(photo.path) for photo in photos]
    people = [photo.person or photo.path.relative_to(root).as_posix() for photo in photos]
    columns = {"person_id": people, "family": people, "path": paths}
    if len(sides) > 1:
        columns["side"] = [photo.side for photo in photos]
    table = pd.DataFrame(columns).assign(**{task.name: [targets[names[photo.folder]] for photo in photos]})
    people_known = any(photo.person for photo in photos)
    if not people_known:
        log.warning(
            "%s does not state who is in the %d photos, so photos of one person may be on both sides of the split and "
            "the score may be optimistic; a folder per person (<class>/<person>/1.jpg) avoids that",
            root,
            len(table),
        )
    return ClassFolders(table, LabelSpace((task,)), people_known)


def has_class_folders(root: Path) -> bool:
    """Return True if `root`, or its `train/`, holds two or more folders with photos."""
    base = next((folder for folder in _folders(root) if side_of(folder.name) == "train"), root)
    return sum(any(divide_files(sorted(folder.iterdir()))[0]) for folder in _folders(base)) > 1


def side_of(name: str) -> str | None:
    """Return the side of a split that a folder name states; None for other names.

    Example:
        >>> side_of("Validation"), side_of("with_mask")
        ('val', None)
    """
    return next((side for side, names in SIDES.items() if name.casefold() in names), None)


def mask_state(name: str) -> str | None:
    """Return the class of MASK that a folder name states; None if it is not known for one.

    Example:
        >>> [mask_state(name) for name in ("with_mask", "mask_weared_incorrect", "No Mask", "cats")]
        ['wear', 'incorrect', 'normal', None]
    """
    return MASK_STATES.get(re.sub(r"[\W_]", "", name.casefold()))


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [entry for entry in sorted(root.iterdir()) if entry.is_dir() and not is_litter(entry.name)]


def _find_sides(root: Path) -> dict[str, Path]:
    """Return the folder of each side to read, or that of the only side; {"": root} if there are no sides."""
    folders = _folders(root)
    if not folders and not (root.is_dir() and _masked_names(root)):
        raise DatasetNotFoundError(
            root,
            describe_folder(root),
            expected="one folder per class, such as with_mask/ and without_mask/, in",
            remedy="set data.root to the folder that holds them",
        )
    found: dict[str, Path] = {}
    for folder in folders:
        side = side_of(folder.name)
        if side is None or not (_folders(folder) or _masked_names(folder)):
            continue
        if side in found:
            raise SampleTableError(
                f"expected one folder per side of the split in {root}, found {found[side].name}/ and {folder.name}/; "
                "move their photos together"
            )
        found[side] = folder
    if not found:
        return {"": root}
    others = [folder for folder in folders if folder not in found.values() and divide_files(_walk(folder))[0]]
    if others:
        raise SampleTableError(
            f"expected class folders in {root}, or sides of the split such as train/ and val/, found both: "
            f"{next(iter(found.values())).name}/ and {others[0].name}/; set data.root to one of them, or move the other"
        )
    if len(found) == 1:
        return {"": next(iter(found.values()))}
    if "train" not in found:
        raise SampleTableError(
            f"expected train/ beside {' and '.join(f'{folder.name}/' for folder in found.values())} in {root}, found "
            "none; add it, or set data.root to one of them"
        )
    held_out = found.get("val", found.get("test"))
    assert held_out is not None
    log.info("%s: photos in %s/ are trained on, those in %s/ held out", root, found["train"].name, held_out.name)
    if "val" in found and "test" in found:
        log.info("%s is not used; evaluate on it with data.root=%s", found["test"], found["test"])
    return {"train": found["train"], "val": held_out}


def _walk(folder: Path) -> list[Path]:
    """Return all files below a folder, sorted, without litter."""
    files = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        files += [Path(place, name) for name in sorted(names) if not is_litter(name)]
    return files


def _masked_names(folder: Path) -> list[Path]:
    """Return the photos directly in a folder that are named as in MaskedFace-Net."""
    return [entry for entry in sorted(folder.iterdir()) if MASKED_NAME.fullmatch(entry.stem) and entry.is_file()]


def _list_photos(base: Path, side: str) -> list[_Photo]:
    """List the photos of one side. Raises SampleTableError for an empty class folder and for mixed levels."""
    loose = divide_files(sorted(base.iterdir()))[0]
    by_folder: dict[Path, list[Path]] = {base: loose} if loose and len(loose) == len(_masked_names(base)) else {}
    others: list[Path] = []
    for folder in _folders(base):
        by_folder[folder], more = divide_files(_walk(folder))
        others += more
    if note := describe_left_out(others):
        log.warning("%s", note)
    if loose and base not in by_folder:
        log.warning("%d photos in %s are in no class folder and left out: %s", len(loose), base, name_some(loose))
    for folder in [folder for folder, photos in by_folder.items() if not photos]:
        if mask_state(folder.name) or not _walk(folder):
            raise SampleTableError(
                f"expected photos in every class folder, found none in {folder}; add some or remove it"
            )
        del by_folder[folder]  # annotations and the like
    everything = [photo for photos in by_folder.values() for photo in photos]
    if any(MASKED_NAME.fullmatch(photo.stem) for photo in everything):
        return [_masked_photo(photo, base, folder, side) for folder, photos in by_folder.items() for photo in photos]
    _check_levels(by_folder)
    return [
        _Photo(photo, folder.name, photo.parent.name if photo.parent != folder else "", side)
        for folder, photos in by_folder.items()
        for photo in photos
    ]


def _check_levels(by_folder: Mapping[Path, Sequence[Path]]) -> None:
    """Raise SampleTableError unless all photos are directly in the class folders, or all one folder deeper."""
    first: dict[int, Path] = {}
    for folder, photos in by_folder.items():
        for photo in photos:
            first.setdefault(len(photo.relative_to(folder).parts), photo)
    if max(first, default=1) > 2:
        raise SampleTableError(
            f"expected photos as <class>/1.jpg or <class>/<person>/1.jpg, found {first[max(first)]}; move them up"
        )
    if len(first) > 1:
        raise SampleTableError(
            f"expected photos in all class folders or in one folder per person below all, found both: {first[1]} and "
            f"{first[2]}; give every photo a person, or none"
        )


def _masked_photo(path: Path, base: Path, folder: Path, side: str) -> _Photo:
    """Return a photo of MaskedFace-Net or FFHQ: the number in its name is the person, also in other folders.

    Folders with names of mask states decide its class. Otherwise it is its name that does.
    """
    match = MASKED_NAME.fullmatch(path.stem)
    person = match["id"] if match else path.stem if FFHQ_NAME.fullmatch(path.stem) else ""
    if folder != base and mask_state(folder.name):
        return _Photo(path, folder.name, person, side)
    if match is None:
        raise SampleTableError(
            f"expected photos named as in MaskedFace-Net (00000_Mask.jpg, 00000_Mask_Chin.jpg), found {path}; move it "
            "into a folder named by how the mask is worn, such as without_mask"
        )
    return _Photo(path, "incorrect" if match["wrong"] else "wear", person, side)


def _class_names(root: Path, photos: Sequence[_Photo]) -> dict[str, str]:
    """Return the class of each class folder: folders whose names differ in case or space only are one class."""
    names: dict[str, str] = {}
    first: dict[str, str] = {}
    for folder in dict.fromkeys(photo.folder for photo in photos):
        names[folder] = first.setdefault(name_key(folder), folder)
    if not names:
        raise DatasetNotFoundError(root, describe_folder(root), expected="class folders with photos in")
    return names


def _check_sides(sides: Mapping[str, Path], photos: Sequence[_Photo], names: Mapping[str, str]) -> None:
    """Raise SampleTableError if the sides of a given split have different classes."""
    if len(sides) < 2:
        return
    classes = {side: {names[photo.folder] for photo in photos if photo.side == side} for side in sides}
    for side, other in (("train", "val"), ("val", "train")):
        missing = sorted(classes[side] - classes[other])
        if missing:
            raise SampleTableError(
                f"expected the same class folders in {sides['train']} and {sides['val']}, found {missing[0]} only in "
                f"{sides[side].name}/; add photos of it to {sides[other].name}/, or remove it"
            )


def _find_task(root: Path, names: Sequence[str], space: LabelSpace | None) -> tuple[Task, dict[str, int]]:
    """Return the task that the folder names are classes of, and the target of each name."""
    if space is not None:
        return _known_task(root, names, space)
    states = {name: mask_state(name) for name in names}
    known = {name: state for name, state in states.items() if state is not None}
    classes = [state for state in MASK.classes if state in known.values()]
    if len(names) < 2 or (len(known) == len(names) and len(classes) < 2):
        raise SampleTableError(
            f"expected folders of two or more classes in {root}, found {', '.join(names)} only; add another class, or "
            "set data.root to the folder that holds all"
        )
    if len(known) < len(names):
        task = Task(CLASS, tuple(names))
        log.info("class folders: task %s (%s)", CLASS, ", ".join(names))
        if known:
            unknown = [name for name in names if name not in known]
            log.warning(
                "%s is not known for how a mask is worn, so the folders are not read as the task mask; if it is, "
                "rename it to with_mask, without_mask or incorrect_mask",
                ", ".join(unknown),
            )
        return task, {name: i for i, name in enumerate(names)}
    absent = [state for state in MASK.classes if state not in classes]
    log.info(
        "class folders: task mask, %s%s",
        ", ".join(f"{name} = {state}" for name, state in known.items()),
        f"; no photos of {' and '.join(absent)}, which is no class then" if absent else "",
    )
    task = Task(MASK.name, tuple(classes))
    return task, {name: task.target(state) for name, state in known.items()}


def _known_task(root: Path, names: Sequence[str], space: LabelSpace) -> tuple[Task, dict[str, int]]:
    """Return the task of the label space that has most of the names as classes, and their targets.

    Raises:
        LabelError: a name is no class of that task.
    """
    found = {task: {name: _target(task, name) for name in names} for task in space.tasks}
    task = max(found, key=lambda each: sum(target is not None for target in found[each].values()))
    targets = {name: target for name, target in found[task].items() if target is not None}
    unknown = [name for name in names if name not in targets]
    if unknown:
        tasks = "; ".join(f"{each.name}: {', '.join(each.classes)}" for each in space.tasks)
        raise LabelError(
            f"expected class folders of one task ({tasks}) in {root}, found {unknown[0]}; "
            f"{did_you_mean(unknown[0], [name for each in space.tasks for name in each.classes])}"
        )
    log.info("class folders: task %s, %s", task.name, ", ".join(f"{n} = {task.classes[i]}" for n, i in targets.items()))
    return task, targets


def _target(task: Task, name: str) -> int | None:
    """Return the target of a folder name; a state of the mask has many names."""
    target = find_target(task, name)
    state = mask_state(name)
    if target is None and task.name == MASK.name and state in task.classes:
        return task.classes.index(state)
    return target


def _without_contradictions(photos: Sequence[_Photo], targets: Mapping[str, int]) -> list[_Photo]:
    """Return the photos without files of equal bytes in folders of different targets, which are logged."""
    by_size: dict[int, list[_Photo]] = {}
    for photo in photos:
        by_size.setdefault(photo.path.stat().st_size, []).append(photo)
    groups: dict[bytes, list[_Photo]] = {}
    for alike in by_size.values():
        if len({targets[photo.folder] for photo in alike}) > 1:
            for photo in alike:
                groups.setdefault(hashlib.blake2b(photo.path.read_bytes(), digest_size=16).digest(), []).append(photo)
    doubtful = [group for group in groups.values() if len({targets[photo.folder] for photo in group}) > 1]
    if not doubtful:
        return list(photos)
    out = {photo.path for group in doubtful for photo in group}
    log.warning(
        "%d photos are in two classes (%s) and left out; keep each in the right one",
        len(doubtful),
        ", ".join(" and ".join(f"{p.folder}/{p.path.name}" for p in group[:2]) for group in doubtful[:3])
        + (", ..." if len(doubtful) > 3 else ""),
    )
    return [photo for photo in photos if photo.path not in out]


def _check_classes_left(root: Path, photos: Sequence[_Photo], names: Mapping[str, str]) -> None:
    left = {names[photo.folder] for photo in photos}
    gone = [name for name in names.values() if name not in left]
    if gone:
        raise SampleTableError(f"all photos of {gone[0]} in {root} are in another class, too; keep each in one class")
