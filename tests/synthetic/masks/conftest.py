"""Photo of a face made of ellipses, its landmarks, and a face set of such photos."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFilter

from mask_lightning.synthetic.masks.landmarks import FaceLandmarks, FaceMatch, aligned_points

EYES, UNIT = (192.0, 206.0), 140.0
SKIN, DARK = (214, 160, 130), (60, 40, 35)
PARTS = (
    (-0.345, 0.0, 0.14, 0.07, DARK),
    (0.345, 0.0, 0.14, 0.07, DARK),
    (-0.37, -0.2, 0.2, 0.04, DARK),
    (0.37, -0.2, 0.2, 0.04, DARK),
    (0.0, 0.69, 0.26, 0.05, (130, 50, 50)),
    (-0.1, 0.47, 0.05, 0.03, DARK),
    (0.1, 0.47, 0.05, 0.03, DARK),
)


@pytest.fixture(scope="session")
def face_photo() -> Image.Image:
    photo = Image.new("RGB", (384, 512), (90, 110, 130))
    draw = ImageDraw.Draw(photo)
    for x, y, width, height, colour in ((0.0, 0.3, 0.76, 0.95, SKIN), *PARTS):
        centre, radius = (EYES[0] + x * UNIT, EYES[1] + y * UNIT), (width * UNIT, height * UNIT)
        box = (centre[0] - radius[0], centre[1] - radius[1], centre[0] + radius[0], centre[1] + radius[1])
        draw.ellipse(box, fill=colour)
    return photo.filter(ImageFilter.GaussianBlur(1.5))


@pytest.fixture(scope="session")
def face() -> FaceLandmarks:
    return FaceLandmarks.from_points(aligned_points(FaceMatch(*EYES, UNIT, 1.0)))


@pytest.fixture(scope="session")
def make_face_set(face_photo: Image.Image) -> Callable[[Path], pd.DataFrame]:
    def make(folder: Path) -> pd.DataFrame:
        """Two people, the second with two photos."""
        folder.mkdir()
        people = {"a": ("1", "male", 30), "b": ("2", "female", 61), "c": ("2", "female", 61)}
        for name in people:
            face_photo.save(folder / f"{name}.png")
        rows = [(str(folder / f"{name}.png"), *person, "Latino_Hispanic") for name, person in people.items()]
        return pd.DataFrame(rows, columns=["path", "person_id", "gender", "age", "race"])

    return make


@pytest.fixture
def face_set(tmp_path: Path, make_face_set: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
    return make_face_set(tmp_path / "faces")
