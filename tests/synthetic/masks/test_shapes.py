import numpy as np
import pytest

from mask_lightning.synthetic.masks.shapes import FaceSurface, FlatSurface, MaskPose, mask_coordinates

FLAT = FlatSurface(np.array([100.0, 180.0]), np.array([60.0, 5.0]), np.array([-4.0, 60.0]))


@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("bridge", (0, 0.03)),
        ("nose_tip", (0, 0.355)),
        ("mouth", (0, 0.57)),
        ("chin", (0, 1)),
        ("ear_left", (-1, 0.157)),
        ("jaw_right", (1, 0.682)),
    ],
)
def test_landmarks_have_their_coordinates(face, name, point):
    assert FaceSurface(face).to_pixels(np.array(point)) == pytest.approx(getattr(face, name), abs=2.5)


@pytest.mark.parametrize("pose", [MaskPose(), MaskPose(down=0.4, tall=0.7, lift=0.14), None])
def test_mask_coordinates_invert_the_surface(face, pose):
    surface = FLAT if pose is None else FaceSurface(face, pose)
    corner, size, step = (90, 190), (200, 200), 0.5
    points = mask_coordinates(surface, corner, size, step)
    rows, columns = np.indices(points.shape[:2])
    pixels = np.stack([corner[0] + (columns + 0.5) * step, corner[1] + (rows + 0.5) * step], axis=-1)
    inside = (slice(12, -12), slice(12, -12))
    assert np.abs(surface.to_pixels(points) - pixels)[inside].max() < 0.5
