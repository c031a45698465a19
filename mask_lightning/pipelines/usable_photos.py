"""Photos of a run that cannot be decoded: told, or replaced, before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from mask_lightning.data.decoding import Broken, explain_broken, find_broken, some
from mask_lightning.data.splits import Split
from mask_lightning.errors import PhotoError
from mask_lightning.pipelines import age_targets as teaching
from mask_lightning.pipelines import prepare as assembly
from mask_lightning.runs.photos import short_name
from mask_lightning.settings.train import TrainSettings

log = logging.getLogger(__name__)

MOST_SKIPPED = 0.01  # of the photos: beyond it something else is wrong, and a person should look


def usable_photos(settings: TrainSettings, photos: assembly.Photos) -> assembly.Photos:
    """The photos that can be decoded; the same where that is all.

    `data.on_bad_photo=skip` puts another training photo of the same classes in the place of a broken one, the same
    whenever the seed is the same, and scores without those that were held out. Their names are in `skipped`.

    The cache knows what is broken, as it decodes every photo anyway. Without it all are decoded once here.

    Raises:
        PhotoError: naming all that are broken, unless they are skipped; then if they are more than MOST_SKIPPED.
        CacheError: as `assembly.open_cache`.
    """
    paths = list(dict.fromkeys([*photos.learned["path"], *photos.split.val["path"]]))
    broken = _find(settings, photos, paths)
    if not broken:
        return photos
    few, skip = len(broken) <= MOST_SKIPPED * len(paths), settings.data.on_bad_photo == "skip"
    if not (few and skip):
        limit = f", more than the {MOST_SKIPPED:.0%} that data.on_bad_photo=skip leaves out" if skip else ""
        remedy = ", or train without them: data.on_bad_photo=skip" if few else ""
        raise PhotoError(
            f"{len(broken)} of {len(paths)} photos cannot be decoded{limit}: {some(list(broken.values()))}{remedy}"
        )
    for reason in broken.values():
        log.warning("skipped: %s", reason)
    log.warning("%d of %d photos are skipped (data.on_bad_photo=skip)", len(broken), len(paths))
    learned = replace_rows(photos.learned, broken, photos.space.names, seed=settings.seed)
    sides = (photos.split.train, photos.split.val)
    return replace(
        photos,
        split=Split(*(rows[~rows["path"].isin(broken)].reset_index(drop=True) for rows in sides)),
        learned=learned,
        taught=teaching.taught_rows(settings, learned),
        skipped=tuple(map(short_name, broken)),
    )


def replace_rows(rows: pd.DataFrame, broken: Collection[str], tasks: Sequence[str], *, seed: int) -> pd.DataFrame:
    """The sample table with another row of the same targets for each broken photo; without it, where there is none."""
    group = rows.groupby(list(tasks)).ngroup().to_numpy()
    whole = ~rows["path"].isin(broken).to_numpy()
    generator, place = np.random.default_rng(seed), np.arange(len(rows))
    for row in np.flatnonzero(~whole):
        alike = np.flatnonzero(whole & (group == group[row]))
        place[row] = generator.choice(alike) if len(alike) else -1
    return rows.iloc[place[place >= 0]].reset_index(drop=True)


def _find(settings: TrainSettings, photos: assembly.Photos, paths: Sequence[str]) -> Broken:
    cache = assembly.open_cache(settings, photos, assembly.transform_spec(settings))
    if cache is None:
        return find_broken(paths, progress=settings.trainer.progress)
    return explain_broken([path for path in paths if not cache.holds(path)])
