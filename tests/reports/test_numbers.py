from __future__ import annotations

import numpy as np

from mask_lightning.labels import AGE
from mask_lightning.reports.numbers import plot_numbers

NUMBERS = np.array([[0, 20, 30], [0, 25, 21], [1, 41, 40], [2, 75, 44]], np.float32)


def test_every_photo_is_a_point_and_every_class_there_has_its_mean_and_bias() -> None:
    errors = {"bias/<30": 3.0, "bias/30-59": -1.0, "bias/>=60": -16.0}
    (axis,) = plot_numbers(NUMBERS, AGE.classes, top=60.0, errors=errors, title="ages").axes
    points = axis.collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 0], NUMBERS[:, 1], atol=0.5)
    np.testing.assert_array_equal(points[:, 1], NUMBERS[:, 2])
    assert [text.get_text() for text in axis.texts] == ["<30: +3.0", "30-59: -1.0", ">=60: -16.0"]
    assert [text.xy[1] for text in axis.texts] == [25.5, 40, 44]
    diagonal = axis.lines[0].get_xydata().tolist()
    assert diagonal == [[0, 0], [60, 60], [75, 60]], "whoever is older is right at the top"


def test_a_class_without_a_photo_has_no_mean() -> None:
    (axis,) = plot_numbers(NUMBERS[:2], AGE.classes, top=60.0, errors={"bias/<30": 3.0}, title="ages").axes
    assert len(axis.texts) == 1
