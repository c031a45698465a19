"""Random answers to photos of known people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mask_lightning.inference.predictions import Predictions
from mask_lightning.labels import FACE, LabelSpace

MakeLabelled = Callable[..., Predictions]


@pytest.fixture(scope="session")
def make_labelled() -> MakeLabelled:
    """Predictions of photos whose targets, people and further columns are given; probabilities are random if not."""

    def make(
        people: Sequence[str],
        targets: dict[str, Any],
        *,
        probs: dict[str, Any] | None = None,
        space: LabelSpace = FACE,
        seed: int = 0,
        **columns: Sequence[str],
    ) -> Predictions:
        rng = np.random.default_rng(seed)
        space = space.only(list(targets))
        said = probs or {t.name: rng.dirichlet(np.ones(t.num_classes), len(people)) for t in space.tasks}
        photos = pd.DataFrame({"photo": [f"{i}.jpg" for i in range(len(people))], "person_id": list(people), **columns})
        return Predictions(
            space,
            photos,
            {task: np.asarray(values, np.float32) for task, values in said.items()},
            {task: np.asarray(values, np.int64) for task, values in targets.items()},
            {task: np.full(len(people), np.nan, np.float32) for task in space.names},
            (),
        )

    return make
