"""Pack photos: find and split them as for a training, prepare each once, and write them as chunks."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track

from mask_lightning.data.images import photo_size
from mask_lightning.data.loading import LeanLoader, leave_signals_to_the_trainer, worker_errors_in_one_line
from mask_lightning.data.packed import OPTIONS, Manifest, require_litdata
from mask_lightning.data.packing import (
    PackWriter,
    check_disk_space,
    order_rows,
    photo_names,
    photos_per_chunk,
    refuse_existing,
)
from mask_lightning.data.prepared import PhotoSize
from mask_lightning.data.sources import LabelledPhotos
from mask_lightning.data.splits import Split
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import PackedError
from mask_lightning.faces.detector import require_detector
from mask_lightning.inference.dataset import CacheLocation, PredictionDataset, collate_photos
from mask_lightning.pipelines.photos import check_few_broken, read_labelled, split_photos
from mask_lightning.runs.photos import short_name
from mask_lightning.settings.pack import PackSettings
from mask_lightning.utils.files import is_remote, location
from mask_lightning.utils.system import keep_memory, share_of_cores

log = logging.getLogger(__name__)

BATCH = 32


def pack_photos(settings: PackSettings) -> Manifest:
    """Prepare the photos and write them with their labels and the split to `out`; photos in a cache are not decoded.

    Raises:
        MaskLightningError: the user can correct the cause. `out` is then as before, or, in S3, without packed.json.
    """
    require_litdata()
    data, out = settings.data, settings.out
    if data.crop == "face":
        require_detector()
    refuse_existing(out)
    spec = TransformSpec(size=settings.image_size, **data.crop_options)
    photos = read_labelled(data, settings.known_space, outputs=settings.outputs)
    photos, split = split_photos(
        photos, data, photos.space, cache_folder=settings.cache_folder, progress=settings.progress
    )
    rows = order_rows(split, seed=settings.seed)
    names = photo_names(rows["path"], photos.root)
    with _draft_folder(settings) as draft:
        if not is_remote(out):
            check_disk_space(draft, len(rows), spec.size)
        writer = PackWriter(
            out,
            draft,
            rows,
            spec,
            photos.space,
            per_chunk=photos_per_chunk(settings.chunk_mb, spec.size),
            about=_describe(photos, data.split_options),
        )
        sizes = _write(writer, rows["path"].tolist(), spec, settings, photos.root)
        kept = [names[position] for position in writer.kept]
        manifest = writer.finish(kept, _facts([rows["path"][position] for position in writer.kept], sizes))
    _report(manifest, split, out)
    return manifest


def _describe(photos: LabelledPhotos, options: dict[str, object]) -> dict[str, object]:
    return {
        "strata": list(photos.strata),
        "people_known": photos.people_known,
        "split": {name: options[name] for name in OPTIONS},
    }


@contextmanager
def _draft_folder(settings: PackSettings) -> Iterator[Path]:
    """Create an empty folder for the block: beside a local `out`, or below the cache folder for chunks on their way."""
    out = settings.out
    parent = settings.cache_folder if is_remote(out) else out.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".packing-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        raise PackedError(f"cannot write to {parent} ({error.strerror or error}); name another folder") from error


def _write(
    writer: PackWriter, paths: list[str], spec: TransformSpec, settings: PackSettings, root: Path
) -> dict[str, PhotoSize]:
    """Add all photos that can be decoded, and return the sizes that decoding has found.

    Raises:
        PhotoError: photos cannot be decoded, and are not skipped; all of them are named.
    """
    cache = CacheLocation(settings.cache_folder, root)
    workers = share_of_cores() if settings.data.num_workers is None else settings.data.num_workers
    keep_memory()
    loader = LeanLoader(
        PredictionDataset(paths, [spec], "none", cache),
        batch_size=BATCH,
        num_workers=workers if workers > 1 else 0,
        collate_fn=collate_photos,
        worker_init_fn=leave_signals_to_the_trainer,
    )
    skip, sizes, broken = settings.data.on_bad_photo == "skip", dict[str, PhotoSize](), dict[str, str]()
    console = Console(stderr=True)
    hidden = not (settings.progress and console.is_terminal)
    position = 0
    with worker_errors_in_one_line():
        for batch in track(loader, "packing photos", len(loader), console=console, transient=True, disable=hidden):
            broken |= batch.errors
            sizes |= dict(batch.sizes)
            for image in batch.images[0][:, 0].permute(0, 2, 3, 1).numpy():
                if paths[position] not in broken and (skip or not broken):
                    writer.add(position, image)
                position += 1
    check_few_broken(broken, len(paths), settings.data, remedy="pack the others")
    for reason in broken.values():
        log.warning("left out: %s", reason)
    return sizes


def _facts(paths: list[str], sizes: dict[str, PhotoSize]) -> pd.DataFrame:
    """Return size of file, photo and face of each photo; sizes that a cache does not have are read from the headers."""
    found = [sizes.get(path) or PhotoSize(*(photo_size(path) or (0, 0))) for path in paths]
    facts = pd.DataFrame(found, columns=["width", "height", "face"])
    missing = [short_name(path) for path, size in zip(paths, found, strict=True) if size.face == 0]
    if missing:
        log.warning("%d photos have no detected face, the middle of the photo is used: %s", len(missing), missing[0])
    return facts.assign(bytes=np.array([Path(path).stat().st_size for path in paths], np.int64))


def _report(manifest: Manifest, split: Split, out: Path) -> None:
    total = sum(chunk.size for chunk in manifest.chunks)
    print(
        f"packed {manifest.photos:,} photos of {manifest.size} pixels: {split.train['person_id'].nunique():,} people "
        f"to train on, {split.val['person_id'].nunique():,} held out, in {len(manifest.chunks)} chunks of "
        f"{max(chunk.size for chunk in manifest.chunks) / 1e6:.1f} MB ({total / 1e9:.2f} GB): {location(out)}"
    )
    changed = {"data.val_fraction": 0.2, "data.folds": None, "data.fold": None, "data.split_seed": 0}
    given = [
        f"{option}={manifest.split[name]:g}"
        for name, option in OPTIONS.items()
        if manifest.split[name] != changed[option] and not (name == "val_fraction" and manifest.split["folds"])
    ]
    print(" ".join([f"next: python -m mask_lightning.train data=packed data.root={location(out)}", *given]))
