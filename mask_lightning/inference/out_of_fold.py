"""Joining what each fold's network said of the people that it has not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mask_lightning.errors import PredictionsError
from mask_lightning.inference.predictions import Predictions


def join_folds(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of different people as one; `fold` in its photos tells which part each comes from.

    Raises:
        PredictionsError: the parts have different tasks or classes, or two of them answer for one person.
    """
    space = parts[0].space
    if any(part.space != space for part in parts):
        raise PredictionsError("expected folds of one label space, found different tasks or classes; name one sweep")
    photos = pd.concat([part.photos.assign(fold=i) for i, part in enumerate(parts)], ignore_index=True)
    folds = photos.groupby("person_id")["fold"].nunique()
    shared = folds.index[folds > 1].tolist()
    if shared:
        raise PredictionsError(
            f"expected every person in one fold, found {', '.join(map(str, shared[:5]))} in several; "
            "name the folds of one split"
        )
    return Predictions(
        space=space,
        photos=photos,
        probs={task: np.concatenate([part.probs[task] for part in parts]) for task in space.names},
        targets={task: np.concatenate([part.targets[task] for part in parts]) for task in space.names},
        losses={task: np.concatenate([part.losses[task] for part in parts]) for task in space.names},
        sources=tuple(source for part in parts for source in part.sources),
    )
