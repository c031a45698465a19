from __future__ import annotations

import pickle

import pytest

from mask_lightning.errors import ConfigError
from mask_lightning.optim.curves import Combined, Constant, Cosine, Curve, Exponential, Linear, Polynomial


@pytest.mark.parametrize(
    ("curve", "start", "middle", "end"),
    [
        (Constant(3.0), 3.0, 3.0, 3.0),
        (Linear(1.0, 0.0), 1.0, 0.5, 0.0),
        (Cosine(0.0, 1.0), 0.0, 0.5, 1.0),
        (Exponential(1e-4, 1.0), 1e-4, 1e-2, 1.0),
        (Polynomial(0.0, 1.0, 2.0), 0.0, 0.25, 1.0),
        (Combined((0.5, 0.5), (Linear(0.0, 1.0), Linear(1.0, 0.2))), 0.0, 1.0, 0.2),
        (Combined((0.0, 1.0), (Constant(9.0), Linear(0.0, 1.0))), 0.0, 0.5, 1.0),
        (Combined((1.0, 0.0), (Linear(0.0, 1.0), Constant(9.0))), 0.0, 0.5, 1.0),
        (Combined((0.1, 0.2, 0.7), (Constant(1.0), Constant(2.0), Constant(3.0))), 1.0, 3.0, 3.0),
    ],
)
def test_curve_at_start_middle_and_end(curve: Curve, start: float, middle: float, end: float) -> None:
    assert [curve(0.0), curve(0.5), curve(1.0)] == pytest.approx([start, middle, end])


def test_a_curve_is_a_plain_value() -> None:
    curve = Combined((0.5, 0.5), (Linear(0.0, 1.0), Cosine(1.0, 0.0)))
    assert pickle.loads(pickle.dumps(curve)) == curve


@pytest.mark.parametrize(
    "build",
    [
        lambda: Exponential(0.0, 1.0),
        lambda: Exponential(1.0, -1.0),
        lambda: Polynomial(0.0, 1.0, 0.0),
        lambda: Combined((0.5, 0.4), (Constant(1.0), Constant(1.0))),
        lambda: Combined((1.5, -0.5), (Constant(1.0), Constant(1.0))),
        lambda: Combined((1.0,), (Constant(1.0), Constant(1.0))),
        lambda: Combined((), ()),
    ],
)
def test_impossible_curve_is_refused(build: object) -> None:
    assert callable(build)
    with pytest.raises(ConfigError):
        build()
