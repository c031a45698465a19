import pytest

from mask_lightning.synthetic.portraits.people import BANDS
from mask_lightning.synthetic.portraits.quotas import largest_remainder, quotas


@pytest.mark.parametrize(
    ("total", "shares", "want"),
    [
        (10, (0.5, 0.5), [5, 5]),
        (1, (0.47, 0.46, 0.07), [1, 0, 0]),
        (3, (1 / 3, 1 / 3, 1 / 3), [1, 1, 1]),
        (60, (0.47, 0.46, 0.07), [28, 28, 4]),
        (0, (0.61, 0.39), [0, 0]),
    ],
)
def test_largest_remainder_is_exact(total: int, shares: tuple[float, ...], want: list[int]) -> None:
    assert largest_remainder(total, shares) == want


@pytest.mark.parametrize(
    ("people", "women", "bands"),
    [
        (1, 1, (1, 0, 0)),
        (10, 6, (5, 4, 1)),
        (30, 18, (14, 14, 2)),
        (60, 37, (28, 28, 4)),
        (100, 61, (47, 46, 7)),
        (1000, 610, (470, 460, 70)),
    ],
)
def test_both_margins_are_exact(people: int, women: int, bands: tuple[int, ...]) -> None:
    counts = quotas(people)
    assert sum(counts["female", band] for band in BANDS) == women
    assert tuple(counts["female", band] + counts["male", band] for band in BANDS) == bands


@pytest.mark.parametrize(("start", "stop", "least"), [(1, 30, 0), (30, 60, 1), (60, 301, 2)])
def test_no_cell_is_short(start: int, stop: int, least: int) -> None:
    for people in range(start, stop):
        counts = quotas(people)
        assert min(counts.values()) >= least
        assert sum(counts.values()) == people
