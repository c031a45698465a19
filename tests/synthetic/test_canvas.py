import numpy as np
import pytest
from PIL import Image

from mask_lightning.synthetic.canvas import (
    Canvas,
    Colour,
    Pose,
    colour_at,
    ellipse,
    mirrored,
    mix,
    shade,
    shifted,
    smooth,
)


def blank(pose: Pose | None = None) -> Canvas:
    return Canvas(Image.new("RGB", (80, 80), (0, 0, 0)), pose or Pose(x=40, y=40, scale=20))


@pytest.mark.parametrize(
    ("pose", "point", "want"),
    [
        (Pose(10, 20, 5), (0, 0), (10, 20)),
        (Pose(10, 20, 5), (2, 3), (20, 35)),
        (Pose(10, 20, 5, tilt=np.pi / 2), (2, 0), (10, 30)),
        (Pose(10, 20, 5, yaw=np.pi / 2), (0, 0), (15, 20)),
        (Pose(10, 20, 5, pitch=0.2), (0, 0), (10, 21)),
    ],
)
def test_pose_maps_face_units_to_pixels(pose: Pose, point: tuple[float, float], want: tuple[float, float]) -> None:
    assert pose.project(np.array([point]))[0] == pytest.approx(want)


@pytest.mark.parametrize(("closed", "count"), [(False, 13), (True, 18)])
def test_smooth_passes_through_its_knots(closed: bool, count: int) -> None:
    knots = [(0.0, 0.0), (1.0, 2.0), (3.0, 0.0)]
    curve = smooth(knots, closed=closed, steps=6)
    assert curve.shape == (count, 2)
    assert curve[::6][:3] == pytest.approx(np.array(knots))


def test_shapes_are_moved_and_mirrored() -> None:
    assert mirrored([(1.0, 2.0)]).tolist() == [[-1.0, 2.0]]
    assert shifted(np.array([[1.0, 2.0]]), 1.0, -1.0).tolist() == [[2.0, 1.0]]
    assert ellipse(3.0, 4.0, 1.0).mean(0) == pytest.approx((3.0, 4.0))


@pytest.mark.parametrize(
    ("opacity", "soft", "low", "high"), [(1.0, 0.0, 255, 255), (0.5, 0.0, 120, 135), (1.0, 0.3, 200, 255)]
)
def test_fill_covers_the_middle(opacity: float, soft: float, low: int, high: int) -> None:
    canvas = blank()
    canvas.fill(ellipse(0, 0, 1.0), (255, 255, 255), opacity=opacity, soft=soft)
    assert low <= np.asarray(canvas.image)[40, 40, 0] <= high
    assert np.asarray(canvas.image)[2, 2, 0] == 0


def test_within_undoes_what_lies_outside() -> None:
    canvas = blank()
    with canvas.within(ellipse(0, 0, 0.5)):
        canvas.fill(ellipse(0, 0, 1.5), (255, 0, 0))
    pixels = np.asarray(canvas.image)
    assert pixels[40, 40].tolist() == [255, 0, 0]
    assert pixels[40, 65].tolist() == [0, 0, 0]


def test_strands_are_drawn_in_their_colours() -> None:
    canvas = blank()
    paths = np.array([[(-1.0, -1.0), (1.0, -1.0)], [(-1.0, 1.0), (1.0, 1.0)]])
    canvas.strands(paths, [(255, 0, 0), (0, 255, 0)], width=0.1)
    pixels = np.asarray(canvas.image)
    assert pixels[20, 40].tolist() == [255, 0, 0]
    assert pixels[60, 40].tolist() == [0, 255, 0]


def test_drawing_beyond_the_edge_is_harmless() -> None:
    canvas = blank(Pose(x=0, y=0, scale=20))
    canvas.fill(ellipse(-5, -5, 1.0), (255, 255, 255), soft=0.2)
    canvas.stroke(np.array([(-1.0, -1.0), (9.0, 9.0)]), (255, 255, 255), width=0.1, opacity=0.5)
    assert canvas.image.size == (80, 80)


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
    assert colour_at([(0, 0, 0), (10, 10, 10), (30, 30, 30)], position) == want
