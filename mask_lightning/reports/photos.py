"""Photos side by side with their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from mask_lightning.reports.figures import new_figure


def plot_photos(
    photos: Sequence[npt.NDArray[np.uint8]], captions: Sequence[str], *, title: str = "", columns: int = 8
) -> Figure:
    """RGB photos (H, W, 3) in rows of `columns`, each under its caption."""
    columns = min(columns, len(photos))
    rows = math.ceil(len(photos) / columns)
    figure = new_figure(1.6 * columns, 1.85 * rows + (0.4 if title else 0))
    for axis in figure.subplots(rows, columns, squeeze=False).flat:
        axis.set_axis_off()
    for axis, photo, caption in zip(figure.axes, photos, captions, strict=False):
        axis.imshow(photo)
        axis.set_title(caption, fontsize=7)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure
