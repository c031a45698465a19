"""A face detector for tests without the extra `faces`: a face is a red rectangle."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mask_lightning.faces.alignment import CANONICAL
from mask_lightning.faces.detector import Face


class RedFaces:
    """Takes the place of `faces.detector.CenterFace`; notes the size of each photo."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def find_one(self, photo: Image.Image) -> Face | None:
        """Return the bounding box of the red pixels, with the landmarks where `align` puts them."""
        self.sizes.append(photo.size)
        pixels = np.asarray(photo).astype(int)
        rows, columns = np.nonzero((pixels[..., 0] > 210) & (pixels[..., 1:].max(axis=2) < 70))
        if not len(rows):
            return None
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        landmarks = CANONICAL * [right - left, bottom - top] + [left, top]
        return Face((float(left), float(top), float(right), float(bottom)), 0.9, landmarks)

    def find_all(self, photo: Image.Image) -> list[Face]:
        """Return the bounding boxes of all connected red regions, largest first; specks are none."""
        self.sizes.append(photo.size)
        pixels = np.asarray(photo).astype(int)
        labels, _ = ndimage.label((pixels[..., 0] > 190) & (pixels[..., 1:].max(axis=2) < 90))
        faces = []
        for rows, columns in ndimage.find_objects(labels):
            box = (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
            if min(box[2] - box[0], box[3] - box[1]) >= 6:
                landmarks = CANONICAL * [box[2] - box[0], box[3] - box[1]] + [box[0], box[1]]
                faces.append(Face(box, 0.9, landmarks.astype(np.float32)))
        return sorted(faces, key=lambda face: face.area, reverse=True)


def install(monkeypatch: pytest.MonkeyPatch) -> RedFaces:
    """Let all crops "face" of the test use this detector; forked processes inherit it."""
    found = RedFaces()
    monkeypatch.setattr("mask_lightning.data.transforms.load_detector", lambda: found)
    monkeypatch.setattr("mask_lightning.inference.many_faces.load_detector", lambda: found)
    for module in ("pipelines.prepare", "inference.trained"):
        monkeypatch.setattr(f"mask_lightning.{module}.require_detector", lambda: None)
    return found


def draw_face(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Draw a red face with a green lower half on blue."""
    photo = Image.new("RGB", size, (0, 0, 120))
    photo.paste((250, 0, 0), box)
    left, top, right, bottom = box
    photo.paste((0, 200, 0), (left + 2, (top + bottom) // 2, right - 2, bottom - 2))
    return photo
