"""Cut all faces out of a photo, each as a network sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from mask_lightning.data.transforms import TransformSpec, prepare_with_face
from mask_lightning.errors import ConfigError
from mask_lightning.faces.detector import Box, Face, load_detector

Pixels = npt.NDArray[np.uint8]
Landmarks = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FaceCrop:
    """A face of a photo, prepared for a network.

    Attributes:
        box: left, top, right, bottom in pixels of the upright photo, inside the photo.
        score: of the detector, 0 to 1.
        landmarks: (5, 2), x and y in pixels, see `faces.detector.Face`.
        pixels: (S, S, 3), the aligned face, RGB.
    """

    box: Box
    score: float
    landmarks: Landmarks
    pixels: Pixels


def crop_faces(
    image: Image.Image, spec: TransformSpec, *, max_faces: int | None = None, min_size: int = 0
) -> list[FaceCrop]:
    """Find the faces of an upright RGB photo and prepare each for a network, largest box first.

    Args:
        image: of any size; for a file, `data.images.open_photo` turns it upright.
        spec: preprocessing of the network, with the crop "face".
        max_faces: keep at most this many, the largest; None: all.
        min_size: leave out faces whose box is lower than this, in pixels of the photo.

    Returns:
        The faces; empty if there is none.

    Raises:
        ConfigError: the crop is not "face".
        DetectorError: the extra `faces` is not installed.
    """
    require_face_crop(spec)
    return [
        FaceCrop(face.box, face.score, face.landmarks, np.array(prepare_with_face(image, spec, face)))
        for face in find_faces(image, max_faces=max_faces, min_size=min_size)
    ]


def find_faces(image: Image.Image, *, max_faces: int | None = None, min_size: int = 0) -> list[Face]:
    """Find the faces that `crop_faces` cuts out; arguments and errors as there."""
    return [face for face in load_detector().find_all(image) if face.height >= min_size][:max_faces]


def require_face_crop(spec: TransformSpec) -> None:
    """Check that a network sees aligned faces. Raises ConfigError if its photos were cropped otherwise."""
    if spec.crop != "face":
        raise ConfigError(
            f"several faces need a network trained with data.crop=face, found data.crop={spec.crop}; train one, or set "
            "faces=one"
        )
