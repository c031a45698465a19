import pytest

from mask_lightning.synthetic.portraits.colours import Colour, along, mix, shade


@pytest.mark.parametrize(
    ("share", "want"), [(0.0, (0, 0, 0)), (0.5, (100, 50, 20)), (1.0, (200, 100, 40)), (7.0, (200, 100, 40))]
)
def test_mix(share: float, want: Colour) -> None:
    assert mix((0, 0, 0), (200, 100, 40), share) == want


@pytest.mark.parametrize(("factor", "want"), [(0.5, (50, 100, 0)), (2.0, (200, 255, 0))])
def test_shade_is_clipped(factor: float, want: Colour) -> None:
    assert shade((100, 200, 0), factor) == want


@pytest.mark.parametrize(
    ("position", "want"), [(-1.0, (0, 0, 0)), (0.5, (5, 5, 5)), (2.0, (30, 30, 30)), (9.0, (30, 30, 30))]
)
def test_along_a_scale(position: float, want: Colour) -> None:
    assert along([(0, 0, 0), (10, 10, 10), (30, 30, 30)], position) == want
