"""Photos side by side with their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from mask_lightning.reports.figures import new_figure


def plot_photos(
    photos: Sequence[npt.NDArray[np.uint8]],
    captions: Sequence[str],
    *,
    colours: Sequence[str] | None = None,
    title: str = "",
    columns: int = 8,
) -> Figure:
    """RGB photos (H, W, 3) in rows of `columns`, each under its caption, in its colour (black where none is given)."""
    columns = min(columns, len(photos))
    rows = math.ceil(len(photos) / columns)
    lines = max(caption.count("\n") for caption in captions)
    figure = new_figure(1.6 * columns, (1.85 + 0.13 * lines) * rows + (0.4 if title else 0))
    for axis in figure.subplots(rows, columns, squeeze=False).flat:
        axis.set_axis_off()
    colours = colours or ["black"] * len(photos)
    for axis, photo, caption, colour in zip(figure.axes, photos, captions, colours, strict=False):
        axis.imshow(photo)
        axis.set(xticks=[], yticks=[])  # unseen ones, too, take their time
        axis.set_title(caption, fontsize=7, color=colour)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure
