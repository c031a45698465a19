"""Photos under what is true and what was predicted."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mask_lightning.data.transforms import TransformSpec
from mask_lightning.inference.predictions import Predictions
from mask_lightning.labels import FACE, UNLABELLED
from mask_lightning.reports.figures import RED
from mask_lightning.reports.results import plot_results


def test_an_error_is_red_and_what_nobody_labelled_is_none(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for path in paths:
        Image.new("RGB", (20, 30)).save(path)
    space = FACE.only(["gender", "age"])
    predictions = Predictions(
        space,
        pd.DataFrame({"photo": paths, "path": paths}),
        {"gender": np.eye(2, dtype=np.float32)[[0, 1, 1]], "age": np.eye(3, dtype=np.float32)[[0, 2, 1]]},
        {"gender": np.array([0, 0, 1]), "age": np.array([0, 2, UNLABELLED])},
        {},
        (),
    )
    figure = plot_results(predictions, TransformSpec(size=16), title="held out")
    titles = [axis.title for axis in figure.axes]
    assert [title.get_text() for title in titles] == [
        "male <30\nmale <30",
        "male >=60\nfemale >=60",
        "female ?\nfemale 30-59",
    ]
    assert [title.get_color() == RED for title in titles] == [False, True, False]
