"""Packed photos in a folder: what was written is read, and what is damaged or another's is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

pytest.importorskip("litdata", reason="needs the extra `packed`")
from torch.utils.data import DataLoader

from mask_lightning.data import packed as packed_module
from mask_lightning.data.dataset import FaceDataset, collate
from mask_lightning.data.packed import (
    INDEX,
    MANIFEST,
    TABLE,
    PackedPhotos,
    check_split,
    is_packed,
    open_packed,
    read_manifest,
)
from mask_lightning.data.packing import PackWriter, order_rows, photo_names, refuse_existing
from mask_lightning.data.prepared import PhotoSize
from mask_lightning.data.s3 import FileFacts, hash_file
from mask_lightning.data.splits import Split
from mask_lightning.data.transforms import TransformSpec, train_pipeline
from mask_lightning.errors import PackedError, PhotoError, SplitError
from mask_lightning.labels import LabelSpace, Task
from mask_lightning.settings.augment import AugmentSettings

SPEC = TransformSpec(size=8)
SPACE = LabelSpace((Task("mask", ("wear", "none")),))
SPLIT = {"val_fraction": 0.25, "folds": None, "fold": None, "seed": 3}
PER_CHUNK = 5
Pixels = npt.NDArray[np.uint8]


def pixels(path: str) -> Pixels:
    """Another photo for each path."""
    return np.random.default_rng(int(Path(path).stem)).integers(0, 256, (8, 8, 3), np.uint8)


def rows(people: int = 8, photos: int = 3) -> pd.DataFrame:
    ids = np.repeat([f"p{i}" for i in range(people)], photos)
    paths = [f"/faces/{person}/{i}.png" for i, person in enumerate(ids)]
    return pd.DataFrame({"path": paths, "person_id": ids, "family": ids, "mask": np.arange(len(ids)) % 2})


def write(out: Path, table: pd.DataFrame | None = None, *, seed: int = 0) -> pd.DataFrame:
    """Pack 8 people x 3 photos, two of them held out; returns the rows in the order of the chunks."""
    table = rows() if table is None else table
    held_out = table["person_id"].isin(["p1", "p6"])
    ordered = order_rows(Split(table[~held_out], table[held_out]), seed=seed)
    draft = out.with_name(f".{out.name}")
    about = {"strata": [], "people_known": True, "split": SPLIT}
    writer = PackWriter(out, draft, ordered, SPEC, SPACE, per_chunk=PER_CHUNK, about=about)
    for i, path in enumerate(ordered["path"]):
        writer.add(i, pixels(path))
    facts = pd.DataFrame({"bytes": 7, "width": 40, "height": 50, "face": np.nan}, index=ordered.index)
    writer.finish(photo_names(ordered["path"], Path("/faces")), facts)
    return ordered


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("packed") / "out"
    return out, write(out)


@pytest.fixture
def copy(written: tuple[Path, pd.DataFrame], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "copy"))


def opened(root: Path) -> PackedPhotos:
    return open_packed(root, folder=Path("unused"), cache_gb=1)


def test_every_photo_comes_back_with_its_row(written: tuple[Path, pd.DataFrame]) -> None:
    root, ordered = written
    packed = opened(root)
    table = packed.sample_table()
    assert table["path"].tolist() == [path.replace("/faces", str(root)) for path in ordered["path"]]
    pd.testing.assert_frame_equal(table.drop(columns=["path", "bytes"]), ordered.drop(columns="path"))
    for path in table["path"]:
        assert np.array_equal(packed.find(path), pixels(path))
    assert packed.size_of(table["path"][3])[:2] == (40, 50)
    assert packed.chunks_of(table["path"][::4]).tolist() == [0, 0, 1, 2, 3, 4]
    elsewhere = str(root / "nobody" / "1.png")
    assert (packed.holds(elsewhere), packed.find(elsewhere), packed.size_of(elsewhere)) == (False, None, None)
    assert is_packed(root)
    assert not is_packed(root.parent)


def test_people_are_shuffled_but_stay_together_and_sides_apart(written: tuple[Path, pd.DataFrame]) -> None:
    ordered = written[1]
    assert ordered["side"].tolist() == ["train"] * 18 + ["val"] * 6
    people = ordered["person_id"].tolist()
    assert people[::3] == people[1::3] == people[2::3]
    assert people[::3] != sorted(people[::3])
    another = order_rows(Split(rows()[:18], rows()[18:]), seed=1)
    assert another["person_id"].tolist() != order_rows(Split(rows()[:18], rows()[18:]), seed=0)["person_id"].tolist()


def test_chunks_are_litdatas(written: tuple[Path, pd.DataFrame]) -> None:
    from litdata.streaming import StreamingDataset

    item = StreamingDataset(str(written[0]))[7]
    row = written[1].iloc[7]
    assert (item["row"], item["person"], item["side"]) == (7, row["person_id"], "train")
    assert item["targets"].tolist() == [row["mask"]]
    assert np.array_equal(item["image"], pixels(row["path"]))


def test_packing_again_gives_the_same_bytes(written: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    write(tmp_path / "again")
    write(tmp_path / "other", seed=1)
    first, again, other = (read_manifest(root) for root in (written[0], tmp_path / "again", tmp_path / "other"))
    assert (first.pack, first.chunks, first.table) == (again.pack, again.chunks, again.table)
    assert first.pack != other.pack


def change(name: str, edit: Callable[[bytes], bytes | None]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        content = edit((root / name).read_bytes())
        (root / name).unlink() if content is None else (root / name).write_bytes(content)

    return apply


def flipped(content: bytes) -> bytes:
    return content[:-30] + bytes([content[-30] ^ 1]) + content[-29:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change(MANIFEST, lambda _: None), "expected packed photos in .*, found no readable packed.json"),
        (change(MANIFEST, lambda text: text[:50]), "cannot read .*packed.json"),
        (change(MANIFEST, lambda _: b"[]"), "cannot read .*packed.json"),
        (change(MANIFEST, lambda text: text.replace(b'"format": 1', b'"format": 2')), "expected format 1 .*found 2"),
        (change(MANIFEST, lambda text: text.replace(b'"photos": 24', b'"photos": 40')), "cannot read .*40 photos in 5"),
        (change(MANIFEST, lambda text: text.replace(b"chunk-0-1.bin", b"../x/0-1.bin")), "a chunk in another folder"),
        (change(TABLE, lambda _: None), "bytes in .*photos.parquet, found no such file"),
        (change(TABLE, flipped), "photos.parquet is not the file that packed.json describes"),
        (change(INDEX, flipped), "index.json is not the file that packed.json describes"),
        (change("chunk-0-2.bin", lambda _: None), r"bytes in .*chunk-0-2.bin, found no such file"),
        (change("chunk-0-2.bin", lambda content: content[:900]), r"chunk-0-2.bin, found 900 bytes; pack"),
    ],
)
def test_missing_and_damaged_files_are_refused(copy: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy)
    with pytest.raises(PackedError, match=message) as caught:
        opened(copy)
    assert "\n" not in str(caught.value)


def test_an_index_that_would_execute_code_is_refused(copy: Path) -> None:
    index = (copy / INDEX).read_bytes().replace(b'"numpy"', b'"pickle"')
    (copy / INDEX).write_bytes(index)
    manifest = replace(read_manifest(copy), index=hash_file(copy / INDEX))
    (copy / MANIFEST).write_bytes(manifest.to_json())
    with pytest.raises(PackedError, match=r"expected arrays, numbers and text in .*index.json, found .*pickle"):
        opened(copy)


@pytest.mark.parametrize("at", range(0, 1500, 97))
def test_no_damage_within_a_chunk_goes_unnoticed(copy: Path, written, at: int) -> None:
    """A byte anywhere: the photos that can be read are the right ones."""
    content = bytearray((copy / "chunk-0-1.bin").read_bytes())
    content[at % len(content)] ^= 0x55
    (copy / "chunk-0-1.bin").write_bytes(content)
    packed, messages = opened(copy), []
    for row in range(PER_CHUNK, 2 * PER_CHUNK):
        try:
            assert np.array_equal(packed.read(row), pixels(written[1]["path"][row]))
        except PackedError as error:
            messages.append(str(error))
    assert all("chunk-0-1.bin is missing or damaged" in each and "\n" not in each for each in messages)
    assert packed.read(0).shape == (8, 8, 3)


def test_a_chunk_of_another_packing_is_refused(copy: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", seed=1)
    for name in ("chunk-0-0.bin", "chunk-0-1.bin"):
        shutil.copy(tmp_path / "other" / name, copy / name)
    with pytest.raises(PackedError, match="another photo in row 2"):
        opened(copy).read(2)


def test_a_chunk_that_vanishes_is_reported(copy: Path) -> None:
    packed = opened(copy)
    (copy / "chunk-0-0.bin").unlink()
    with pytest.raises(PackedError, match=r"chunk-0-0\.bin is missing or damaged .*pack the photos again"):
        packed.read(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 16}, "expected photos of 16 pixels.*found 8 .*model.image_size=8, or pack with image_size=16"),
        ({"crop_height": 300, "crop_width": 300}, "expected photos cropped by .*crop_height=300.*crop_height=380"),
        ({"crop": "face", "crop_height": None, "crop_width": None}, "crop=face.*found crop=centre.*leave the crop out"),
        ({"keep_aspect": True}, "keep_aspect=True.*found.*keep_aspect=False"),
    ],
)
def test_photos_that_were_prepared_otherwise_are_refused(written, changes: dict[str, object], message: str) -> None:
    packed = opened(written[0])
    packed.require(replace(SPEC, mean=(0.5,) * 3))
    with pytest.raises(PackedError, match=message):
        packed.require(replace(SPEC, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_fraction": 0.3}, "data.val_fraction=0.25, found 0.3; set data.val_fraction=0.25, or pack"),
        ({"seed": 0}, "with data.split_seed=3, found 0"),
        ({"folds": 4, "fold": 1}, "with data.folds=null, found 4; set data.folds=null"),
    ],
)
def test_another_split_is_refused(changes: dict[str, object], message: str) -> None:
    check_split(SPLIT, {**SPLIT, "limit": 5})
    with pytest.raises(SplitError, match=message):
        check_split(SPLIT, {**SPLIT, **changes})


def test_nothing_is_overwritten_and_no_photo_is_packed_twice(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "new")
    with pytest.raises(PackedError, match="exists already; remove it, or name another folder"):
        refuse_existing(tmp_path)
    assert photo_names(["/a/b/1.jpg", "/c/2.jpg"], Path("/a")) == ["b/1.jpg", "c/2.jpg"]
    with pytest.raises(PhotoError, match=r"1\.jpg is listed twice"):
        photo_names(["/a/1.jpg", "/a/1.jpg"], Path("/a"))


def test_the_extra_is_named_if_it_is_missing(written, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "litdata", None)
    with pytest.raises(PackedError, match=r"litdata, which is not installed; pip install 'mask_lightning\[packed\]'"):
        opened(written[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_random_draws_depend_on_seed_and_row_alone(written, workers: int) -> None:
    packed = opened(written[0])
    pipeline = train_pipeline(SPEC, AugmentSettings())
    dataset = FaceDataset(packed.sample_table(), ["mask"], pipeline, cache=packed)
    keys = [[(11, 3), (5, 20)], [(7, 9), (8, 0)]]
    loader = DataLoader(dataset, batch_sampler=keys, num_workers=workers, collate_fn=collate)
    found = [image for batch in loader for image in batch["image"]]
    alone = [pickle.loads(pickle.dumps(dataset))[key]["image"] for batch in keys for key in batch]
    assert all((one == other).all() for one, other in zip(found, alone, strict=True))


@pytest.mark.parametrize(
    ("gigabytes", "free", "message"),
    [
        (1e-9, 10**12, r"data.cache_gb=1e-09 must hold 12 chunks .*set it to .* or more"),
        (1.0, 10**6, r"local copies of chunks may take .* lower data.cache_gb"),
    ],
)
def test_copies_need_room(written, tmp_path: Path, monkeypatch, gigabytes: float, free: int, message: str) -> None:
    chunks = read_manifest(written[0]).chunks
    files = {chunk.name: FileFacts(chunk.size, chunk.sha256) for chunk in chunks}
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(PackedError, match=message):
        packed_module._check_room(tmp_path / "copies", files, gigabytes)


def test_sizes_of_photos_are_kept(written) -> None:
    assert isinstance(opened(written[0]).size_of(f"{written[0]}/p0/1.png"), PhotoSize)


def test_the_manifest_is_plain_json(written) -> None:
    plain = json.loads((written[0] / MANIFEST).read_text())
    assert (plain["photos"], plain["per_chunk"], plain["split"], plain["space"]) == (24, 5, SPLIT, SPACE.to_plain())
