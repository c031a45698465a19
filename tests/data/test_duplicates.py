"""People who share photos: copies and photos saved again are found, other photos of similar people are not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mask_lightning.data import duplicates
from mask_lightning.data.duplicates import describe_sharing, find_shared_photos, link_families, read_sketches
from mask_lightning.data.index import read_index


def draw(path: Path, seed: int, *, noise: float = 4) -> Path:
    """A scene of blobs, large and small as in a photo, 160 x 200, saved as JPEG."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(0, noise, (200, 160, 3))
    for side, contrast in ((6, 110), (12, 60), (24, 40), (48, 30)):
        blobs = Image.fromarray(rng.integers(0, 255, (side, side, 3), np.uint8))
        pixels += np.asarray(blobs.resize((160, 200), Image.Resampling.BICUBIC), float) * contrast / 255
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=95)
    return path


def people_of(folder: Path, photos: dict[str, Path]) -> pd.DataFrame:
    return pd.DataFrame([{"path": str(path), "person_id": name, "family": name} for name, path in photos.items()])


def save(quality: int | None = None, scale: float = 1, suffix: str = ".jpg") -> Callable[[Path, Path], Path]:
    def again(source: Path, target: Path) -> Path:
        with Image.open(source) as opened:
            photo = opened.resize((int(opened.width * scale), int(opened.height * scale)))
        photo.save(target.with_suffix(suffix), **({"quality": quality} if quality else {}))
        return target.with_suffix(suffix)

    return again


def edge(source: Path, target: Path) -> Path:
    """Other people in front of the same background: half of the photo differs."""
    photo, other = Image.open(source), Image.open(draw(target.with_name("other.jpg"), 99))
    photo.paste(other.crop((40, 60, 120, 200)), (40, 60))
    photo.save(target, quality=95)
    return target


@pytest.mark.parametrize(
    ("make", "linked"),
    [
        (lambda source, target: Path(shutil.copy(source, target)), True),
        (save(90), True),
        (save(40), True),
        (save(suffix=".png"), True),
        (save(80, suffix=".webp"), True),
        (save(85, scale=0.5), True),
        (save(85, scale=1.3), True),
        (lambda _, target: draw(target, 1), False),
        (edge, False),
    ],
    ids=["copy", "q90", "q40", "png", "webp", "half", "larger", "another", "same background"],
)
def test_one_photo_of_two_people_links_them(tmp_path: Path, make: Callable[[Path, Path], Path], linked: bool) -> None:
    first = draw(tmp_path / "first.jpg", 0)
    table = people_of(
        tmp_path, {"a": first, "b": make(first, tmp_path / "second.jpg"), "c": draw(tmp_path / "c.jpg", 2)}
    )
    pairs = find_shared_photos(table, root=tmp_path, folder=None)
    assert pairs.tolist() == ([[0, 1]] if linked else [])
    families = link_families(table["family"], pairs).tolist()
    assert families == (["a", "a", "c"] if linked else ["a", "b", "c"])


def test_copies_without_content_are_found_and_broken_files_left_out(tmp_path: Path) -> None:
    names = ["grey", "copy", "darker", "broken", "broken copy", "other"]
    for name, level in (("grey", 90), ("copy", 90), ("darker", 91)):
        Image.new("RGB", (64, 64), (level,) * 3).save(tmp_path / f"{name}.png")
    for name, content in (("broken", b"x"), ("broken copy", b"x"), ("other", b"y")):
        (tmp_path / f"{name}.png").write_bytes(content)
    table = people_of(tmp_path, {name: tmp_path / f"{name}.png" for name in names})
    pairs = find_shared_photos(table, root=tmp_path, folder=None)
    assert pairs.tolist() == [[0, 1]]


def test_the_photos_of_one_person_are_no_pairs(tmp_path: Path) -> None:
    first = draw(tmp_path / "first.jpg", 0)
    table = people_of(tmp_path, {"a": first, "b": Path(shutil.copy(first, tmp_path / "b.jpg"))}).assign(family="a")
    assert find_shared_photos(table, root=tmp_path, folder=None).shape == (0, 2)


def test_people_are_linked_through_others_and_named(tmp_path: Path) -> None:
    table = pd.DataFrame({"person_id": list("abcd"), "family": list("abcd")})
    pairs = np.array([[0, 2], [2, 3]])
    assert link_families(table["family"], pairs).tolist() == ["a", "b", "a", "a"]
    assert describe_sharing(table, pairs) == "3 people share photos with others (a, c, d)"


def test_each_photo_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    sketch = duplicates._sketch
    monkeypatch.setattr(duplicates, "_sketch", lambda path: seen.append(Path(path).name) or sketch(path))
    paths = [str(draw(tmp_path / f"{i}.jpg", i)) for i in range(3)]
    first = read_sketches(paths, root=tmp_path, folder=tmp_path / "cache", progress=False)
    assert sorted(seen) == ["0.jpg", "1.jpg", "2.jpg"]
    draw(Path(paths[1]), 7)
    again = read_sketches(paths[::-1][:2], root=tmp_path, folder=tmp_path / "cache", progress=False)
    assert seen[3:] == ["1.jpg"]
    assert (again["bits"][0] == first["bits"][2]).all()
    assert (again["bits"][1] != first["bits"][1]).any()
    read_sketches(paths, root=tmp_path, folder=tmp_path / "cache", progress=False)
    assert len(seen) == 4
    next((tmp_path / "cache").iterdir()).write_bytes(b"broken")
    read_sketches(paths, root=tmp_path, folder=tmp_path / "cache", progress=False)
    assert len(seen) == 7


def test_similar_people_are_not_linked(competition: Path) -> None:
    """People of one gender and age differ in noise only."""
    assert not len(find_shared_photos(read_index(competition), root=competition, folder=None))


@pytest.mark.fairmask
def test_no_people_of_fairmask_are_linked(fairmask: Path) -> None:
    table = read_index(fairmask)
    table = table[table["family"].isin(sorted(set(table["family"]))[:80])].reset_index(drop=True)
    assert not len(find_shared_photos(table, root=fairmask, folder=None))
