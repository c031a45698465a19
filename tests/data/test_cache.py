"""Cached photos have the same pixels, are prepared once for all processes, and never come from an older file."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import PIL
import pytest
import torch
from PIL import Image
from red_faces import draw_face, install

from mask_lightning.data import cache as cache_module
from mask_lightning.data.cache import DraftChunks, PhotoCache, cache_file_name, cached_photos
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.data.dataset import FaceDataset
from mask_lightning.data.images import Decoded, decode_photo, open_photo
from mask_lightning.data.index import read_index
from mask_lightning.data.splits import split_people
from mask_lightning.data.transforms import TransformSpec, eval_pipeline
from mask_lightning.errors import CacheError, PhotoError
from mask_lightning.labels import FACE
from mask_lightning.settings.augment import AugmentSettings
from mask_lightning.utils.files import hold

SPEC = TransformSpec(crop_height=110, crop_width=90, size=32)


@pytest.fixture
def root(competition: Path, tmp_path: Path) -> Path:
    """A copy of 24 people x 7 photos that tests may change."""
    return Path(shutil.copytree(competition, tmp_path / "faces"))


@pytest.fixture
def paths(root: Path) -> list[str]:
    return read_index(root)["path"].tolist()[:40]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the photos that the cache decodes in this process."""
    names: list[str] = []

    def note(path: str, *args: Any) -> Decoded:
        names.append(path)
        return decode_photo(path, *args)

    monkeypatch.setattr("mask_lightning.data.prepared.decode_photo", note)
    return names


@pytest.fixture
def keep(root: Path, tmp_path: Path) -> Callable[..., PhotoCache]:
    def build(paths: list[str], spec: TransformSpec = SPEC, workers: int | None = 0) -> PhotoCache:
        return cached_photos(paths, spec, root=root, folder=tmp_path / "cache", workers=workers, progress=False)

    return build


def check_pixels(cache: PhotoCache, paths: list[str], spec: TransformSpec = SPEC) -> None:
    for path in paths:
        found = cache.find(path)
        assert found is not None
        np.testing.assert_array_equal(found, np.asarray(eval_pipeline(spec)(open_photo(path))))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("spec", [SPEC, TransformSpec(None, None, 48)])
def test_cached_photos_equal_prepared_photos(keep, paths: list[str], spec: TransformSpec, workers: int) -> None:
    cache = keep(paths, spec, workers)
    check_pixels(cache, paths, spec)
    assert cache.find("elsewhere.jpg") is None
    check_pixels(pickle.loads(pickle.dumps(cache)), paths, spec)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("augment", [AugmentSettings(), AugmentSettings(num_ops=2, flip=0.5, min_area=0.5)])
def test_batches_are_bit_identical_with_and_without_a_cache(
    root: Path, tmp_path: Path, augment: AugmentSettings
) -> None:
    split = split_people(read_index(root), val_fraction=0.25, seed=0)
    everyone = pd.concat([split.train, split.val])["path"].tolist()
    cache = cached_photos(everyone, SPEC, root=root, folder=tmp_path / "cache", workers=0)

    def batches(cache: PhotoCache | None, workers: int) -> Iterator[dict[str, torch.Tensor]]:
        data = FaceDataModule(
            split,
            tasks=FACE.names,
            spec=SPEC,
            augment=augment,
            batch_size=20,
            clean_train_photos=30,
            num_workers=workers,
            cache=cache,
        )
        for loader in (data.train_dataloader(), *data.val_dataloader()):
            for batch in loader:
                moved = data.on_after_batch_transfer(batch, 0)
                yield {"raw": batch["image"], "image": moved["image"], "index": batch["index"], **batch["target"]}

    for workers in (0, 1):
        for found, want in zip(batches(cache, workers), batches(None, 0), strict=True):
            assert all(torch.equal(found[name], want[name]) for name in want)
            assert found["raw"].dtype == torch.uint8
            assert found["image"].is_contiguous(memory_format=torch.channels_last)


def test_cached_photos_are_not_decoded_again(keep, paths: list[str], decoded: list[str], caplog) -> None:
    caplog.set_level(logging.INFO)
    keep(paths)
    assert sorted(decoded) == sorted(paths)
    assert "40 photos prepared in" in caplog.text
    caplog.clear()
    cache = keep(paths[5:20])
    assert len(decoded) == len(paths)
    assert not caplog.text
    check_pixels(cache, paths)


def test_photos_of_the_same_folder_share_a_file(keep, paths: list[str], decoded: list[str]) -> None:
    keep(paths[:10])
    cache = keep(paths[5:])
    assert sorted(decoded) == sorted(paths)
    check_pixels(cache, paths)
    assert [path.suffix for path in sorted(cache.file.parent.iterdir())] == [".lock", ".npy"]


@pytest.mark.parametrize("change", ["other pixels", "other time"])
def test_only_a_changed_photo_is_decoded_again(keep, paths: list[str], decoded: list[str], change) -> None:
    before = keep(paths)
    if change == "other pixels":
        Image.new("RGB", (96, 128), "red").save(paths[3])
    else:
        os.utime(paths[3], ns=(1, 1))
    old = before.find(paths[3])
    decoded.clear()
    cache = keep(paths)
    assert decoded == [paths[3]]
    check_pixels(cache, paths)
    np.testing.assert_array_equal(before.find(paths[3]), old)  # an open cache keeps reading the old file


def test_deleted_photos_leave_the_cache(keep, paths: list[str]) -> None:
    size = keep(paths).file.stat().st_size
    for path in paths[:20]:
        Path(path).unlink()
    cache = keep([*paths[20:], *paths[:1]])  # one of the deleted photos
    assert cache.file.stat().st_size < 0.6 * size
    assert cache.find(paths[0]) is None
    check_pixels(cache, paths[20:])


def test_a_broken_photo_raises_the_same_error_as_without_a_cache(keep, root: Path, decoded) -> None:
    rows = read_index(root).head(12)
    broken, gone = rows["path"][3], rows["path"][7]
    Path(broken).write_bytes(b"no photo")
    Path(gone).unlink()
    cache = keep(rows["path"].tolist())
    assert [cache.holds(path) for path in (broken, gone, rows["path"][4])] == [False, False, True]
    with_cache, without = (FaceDataset(rows, FACE.names, eval_pipeline(SPEC), cache=each) for each in (cache, None))
    for row in (3, 7):
        with pytest.raises(PhotoError) as want:
            without[row]
        with pytest.raises(PhotoError) as found:
            with_cache[row]
        assert str(found.value) == str(want.value)
    assert torch.equal(with_cache[4]["image"], without[4]["image"])
    decoded.clear()
    keep(rows["path"].tolist())
    assert not decoded  # not again before its file changes
    Image.new("RGB", (96, 128)).save(broken)
    check_pixels(keep(rows["path"].tolist()), [broken])


def test_building_does_not_use_torchs_generator(keep, paths: list[str]) -> None:
    state = torch.get_rng_state()
    keep(paths)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("field", "other"), [("crop_height", 100), ("crop_width", 80), ("size", 40), ("mean", (0.1, 0.1, 0.1))]
)
def test_the_file_name_depends_on_all_that_determines_the_pixels(tmp_path: Path, field: str, other: object) -> None:
    plain = SPEC.to_plain()
    changed = TransformSpec.from_plain({**plain, field: other})
    assert (cache_file_name(tmp_path, SPEC) == cache_file_name(tmp_path, changed)) == (field == "mean")
    assert cache_file_name(tmp_path, SPEC) != cache_file_name(tmp_path / "others", SPEC)
    assert cache_file_name(tmp_path / "faces", SPEC).startswith("faces-32px-")


def test_the_file_of_a_centre_crop_has_the_name_of_version_0_1_0(tmp_path: Path) -> None:
    text = repr((1, PIL.__version__, str(tmp_path.resolve()), 110, 90, 32))
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert cache_file_name(tmp_path, SPEC) == f"{tmp_path.name}-32px-{digest[:12]}.npy"


@pytest.mark.parametrize("crop", ["centre", "share", "face"])
def test_the_file_name_depends_on_the_options_of_the_crop(tmp_path: Path, crop: str) -> None:
    spec = TransformSpec(None, None, 32, crop=crop)
    changes = {"keep_aspect": True, "share_height": 0.5, "share_width": 0.5, "margin": 0.1}
    names = {name: cache_file_name(tmp_path, replace(spec, **{name: value})) for name, value in changes.items()}
    other = {name for name, found in names.items() if found != cache_file_name(tmp_path, spec)}
    used = {"centre": {"keep_aspect"}, "share": set(changes) - {"margin"}, "face": set(changes)}[crop]
    assert used <= other
    assert crop != "centre" or other == used
    specs = (replace(spec, crop=each) for each in ("centre", "share", "face"))
    assert len({cache_file_name(tmp_path, each) for each in specs}) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_faces_are_sought_once_and_their_sizes_kept(
    keep, paths: list[str], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    draw_face((96, 128), (30, 40, 60, 80)).save(paths[0])
    Path(paths[1]).write_bytes(b"no photo")
    faces, spec = install(monkeypatch), TransformSpec(None, None, 32, crop="face")
    keep(paths[:3], spec, workers)
    sought = len(faces.sizes)
    cache = keep(paths[:5], spec, 0)  # keeps the entries of the first three
    assert len(faces.sizes) == sought + 2
    assert cache.size_of(paths[0]) == (96, 128, pytest.approx(40, abs=3))
    assert cache.size_of(paths[1]) is None
    assert [cache.size_of(path) for path in paths[2:5]] == [(96, 128, 0)] * 3
    assert cache.size_of("elsewhere.jpg") is None
    check_pixels(cache, [paths[0], *paths[2:5]], spec)
    assert keep(paths[:1]).size_of(paths[0]) is None, "only this crop records sizes"


@pytest.mark.parametrize("damage", ["half", "text", "nothing"])
def test_a_damaged_file_is_rebuilt(keep, paths: list[str], damage: str) -> None:
    file = keep(paths).file
    content = {"half": file.read_bytes()[:-100], "text": b"no cache", "nothing": b""}[damage]
    file.write_bytes(content)
    with pytest.raises((OSError, ValueError)):
        PhotoCache(file)
    check_pixels(keep(paths), paths)


def test_a_crash_keeps_the_old_file_and_the_next_run_removes_the_draft(keep, paths: list[str], monkeypatch) -> None:
    file = keep(paths[:10]).file
    content = file.read_bytes()
    left = file.with_name(f".{file.name}.1234")
    left.write_bytes(b"half")
    with monkeypatch.context() as patch:
        patch.setattr(DraftChunks, "__getitem__", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            keep(paths)
    assert file.read_bytes() == content
    assert sorted(path.name for path in file.parent.iterdir()) == sorted([file.name, file.with_suffix(".lock").name])
    check_pixels(keep(paths), paths)


def test_too_little_disk_space_raises_before_decoding(keep, paths: list[str], decoded, monkeypatch) -> None:
    free = cache_module.SPARE + 40 * 32 * 32 * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free - 1))
    with pytest.raises(CacheError, match=r"needs 0\.0 GB in .* and 1\.1 GB to spare, found 1\.1 GB free; .*cache_dir"):
        keep(paths)
    assert not decoded
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    check_pixels(keep(paths), paths)


def test_a_folder_that_is_not_writable_raises(root: Path, paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"cannot write the photo cache .*; set data\.cache_dir"):
        cached_photos(paths, SPEC, root=root, folder=tmp_path / "file" / "cache")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_that_fills_up_during_decoding_raises(keep, paths: list[str], monkeypatch, workers: int) -> None:
    def full(self: DraftChunks, chunk: int) -> list[bool]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DraftChunks, "__getitem__", full)
    with pytest.raises(CacheError, match=r"cannot write the photo cache [^\n]*No space left on device[^\n]*$"):
        keep(paths, workers=workers)


def build_and_report(root: Path, folder: Path, messages: SimpleQueue[str]) -> None:
    """Build the cache in a separate process, and report its log messages."""
    cache_module.log.setLevel(logging.INFO)
    cache_module.log.addHandler(handler := logging.Handler())
    handler.emit = lambda record: messages.put(record.getMessage())  # type: ignore[method-assign]
    paths = read_index(root)["path"].tolist()
    check_pixels(cached_photos(paths, SPEC, root=root, folder=folder, workers=0), paths[::20])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="jobs are forked here to start fast")
def test_one_of_twenty_jobs_decodes_and_the_others_wait(root: Path, tmp_path: Path) -> None:
    """The test holds the lock until all jobs wait for it, so that none starts early."""
    folder, context = tmp_path / "cache", multiprocessing.get_context("fork")
    folder.mkdir()
    lock, messages = (folder / cache_file_name(root, SPEC)).with_suffix(".lock"), context.SimpleQueue()
    lock.touch()
    with hold(lock) as got:
        assert got
        jobs = [context.Process(target=build_and_report, args=(root, folder, messages)) for _ in range(20)]
        for job in jobs:
            job.start()
        assert all("another process prepares" in messages.get() for _ in jobs)
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 20
    assert "168 photos prepared" in messages.get()
    assert messages.empty()
