"""Out-of-fold predictions: for every person what the network said that has not trained on that person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mask_lightning.errors import RunFolderError
from mask_lightning.inference.out_of_fold import join_folds
from mask_lightning.inference.predictions import Predictions
from mask_lightning.labelled import predict_labelled
from mask_lightning.run_folder import RunFolder
from mask_lightning.settings.checking import check
from mask_lightning.settings.identity import flatten, identity
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps.table import Row, collect_runs

TRAIN_THEM = "python -m mask_lightning.train -m data.folds=5 data.fold=0,1,2,3,4"


def predict_out_of_fold(
    folds: Sequence[RunFolder],
    *,
    batch_size: int = 64,
    num_workers: int | None = None,
    accelerator: str = "auto",
    progress: bool = False,
) -> Predictions:
    """Let each fold's network predict the people held out from it; of `find_folds`, together they are everybody.

    Raises:
        MaskLightningError: as `predict_labelled` and `join_folds`.
    """
    parts = [
        predict_labelled(
            run.path, batch_size=batch_size, num_workers=num_workers, accelerator=accelerator, progress=progress
        ).predictions
        for run in folds
    ]
    return join_folds(parts)


def find_folds(places: Sequence[Path]) -> list[RunFolder]:
    """The finished runs of one cross-validation below the places, in the order of their folds.

    Raises:
        RunFolderError: none there, a fold is missing or not finished, or runs of other splits, photos or options lie
            among them.
    """
    names = ", ".join(map(str, places))
    for place in places:
        if not place.is_dir():
            raise RunFolderError(
                f"expected a folder with runs at {place}, found none; set runs to the folder of a sweep"
            )
    rows = [row for row in collect_runs(places).rows if row.result is not None]
    if not rows:
        raise RunFolderError(f"expected the folds of a cross-validation below {names}, found no run; {TRAIN_THEM}")
    _refuse_others(rows)
    return _one_of_each(rows, names)


def _refuse_others(rows: Sequence[Row]) -> None:
    for row in rows:
        if row.options.get("data.folds") is None:
            raise RunFolderError(
                f"expected folds only, found {row.folder}, which was trained without data.folds; "
                f"name the folder of one sweep, or train one: {TRAIN_THEM}"
            )
    first, wanted = rows[0], _what_folds_share(rows[0])
    for row in rows[1:]:
        found = _what_folds_share(row)
        for name in wanted:
            if found.get(name) != wanted[name]:
                raise RunFolderError(
                    f"expected the folds of one split, found {name} {wanted[name]} in {first.folder} and "
                    f"{found.get(name)} in {row.folder}; name the folder of one sweep"
                )


def _what_folds_share(row: Row) -> dict[str, Any]:
    """Every option that counts but the fold, and the photos."""
    settings = check(TrainSettings, RunFolder(row.folder).read_config())
    options = flatten(identity(settings))
    del options["data.fold"], options["data.val_fraction"]  # the latter says again how many folds there are
    # Where people to train on are drawn, every fold draws others.
    photos = row.result.data.get("fingerprint") if row.result and not settings.data.limit_people else None
    return {**options, "the photos' fingerprint": photos}


def _one_of_each(rows: Sequence[Row], names: str) -> list[RunFolder]:
    count = int(rows[0].options["data.folds"])
    status = {row.options["data.fold"]: row.status for row in rows}
    finished = {row.options["data.fold"]: RunFolder(row.folder) for row in rows if row.status == "finished"}
    missing = [f"{fold} ({status.get(fold, 'not there')})" for fold in range(count) if fold not in finished]
    if missing:
        raise RunFolderError(
            f"expected all {count} folds below {names}, finished, found {len(finished)} of them; "
            f"missing: {', '.join(missing)}; the command of the sweep again trains those only"
        )
    return [finished[fold] for fold in range(count)]
