"""The panels of curves.png."""

from __future__ import annotations

import pandas as pd
import pytest

from mask_lightning.optim.phases import Phase
from mask_lightning.reports.curves import plot_curves

HISTORY = pd.DataFrame({"epoch": [0, 1], "train/loss": [2.0, 1.0], "val/f1": [0.2, 0.4], "val/age/f1": [0.3, 0.5]})


@pytest.mark.parametrize("weighed", [False, True])
def test_weights_that_move_have_a_panel(weighed: bool) -> None:
    history = HISTORY.assign(**{"train/age/weight": [1.0, 1.3]}) if weighed else HISTORY
    axes = plot_curves(history, [Phase(2)], ["mask", "age"]).axes
    assert [axis.get_title() for axis in axes][3:] == (["weight of each task's loss"] if weighed else [])
    assert [line.get_label() for line in axes[2].lines] == ["age"]
    if weighed:
        assert axes[3].lines[0].get_ydata().tolist() == [1.0, 1.3]
