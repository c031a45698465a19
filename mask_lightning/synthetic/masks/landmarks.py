"""Where the parts of a face are: by MediaPipe where it is installed, else by the aligned crop's geometry.

Left and right are the picture's, not the person's. All points are (x, y) in pixels.
"""

import importlib.util
import math
import os
import warnings
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
from PIL import Image

from mask_lightning.errors import MaskLightningError
from mask_lightning.synthetic.masks.aligned import AlignedCrop, aligned_points, match_face

Point = tuple[float, float]
LandmarkSource = Literal["auto", "mediapipe", "geometry"]

# FaceMesh's numbering; the mirrored pairs stand in the order of FaceLandmarks.
MESH_POINTS = {
    "eye_left": 33,
    "eye_right": 263,
    "bridge": 6,
    "nose_tip": 1,
    "mouth_left": 61,
    "mouth_right": 291,
    "chin": 152,
    "jaw_left": 172,
    "jaw_right": 397,
    "ear_left": 234,
    "ear_right": 454,
}


@dataclass(frozen=True)
class FaceLandmarks:
    """The few points that a mask needs; eyes are the outer corners, `yaw` is in degrees, None if unknown."""

    eye_left: Point
    eye_right: Point
    bridge: Point
    nose_tip: Point
    mouth_left: Point
    mouth_right: Point
    chin: Point
    jaw_left: Point
    jaw_right: Point
    ear_left: Point
    ear_right: Point
    yaw: float | None = None
    source: str = "geometry"

    @classmethod
    def from_points(
        cls, points: dict[str, Point], *, yaw: float | None = None, source: str = "geometry"
    ) -> "FaceLandmarks":
        """The face with these points, by name."""
        return cls(**cast("dict[str, Any]", points), yaw=yaw, source=source)

    @property
    def eye_distance(self) -> float:
        """From outer corner to outer corner: the unit in which everything is drawn."""
        return math.dist(self.eye_left, self.eye_right)

    @property
    def eye_centre(self) -> Point:
        """The middle between the eyes."""
        return _middle(self.eye_left, self.eye_right)

    @property
    def mouth(self) -> Point:
        """The middle between the corners of the mouth."""
        return _middle(self.mouth_left, self.mouth_right)

    def moved(self, matrix: np.ndarray) -> "FaceLandmarks":
        """The same face after `matrix` (2, 3), which maps old pixels to new ones."""
        points = {name: getattr(self, name) for name in point_names()}
        moved = {name: matrix[:, :2] @ np.asarray(point) + matrix[:, 2] for name, point in points.items()}
        pixels = {name: (float(x), float(y)) for name, (x, y) in moved.items()}
        return FaceLandmarks.from_points(pixels, yaw=self.yaw, source=self.source)


def point_names() -> list[str]:
    """The names of the points in FaceLandmarks."""
    return [field.name for field in fields(FaceLandmarks) if field.name not in ("yaw", "source")]


def mediapipe_installed() -> bool:
    """Whether the optional extra `landmarks` is there."""
    return importlib.util.find_spec("mediapipe") is not None


def find_landmarks(photo: Image.Image, crop: AlignedCrop, *, source: LandmarkSource = "auto") -> FaceLandmarks | None:
    """The face in an RGB photo, or None if there is none.

    `auto` takes MediaPipe where it is installed and else looks where `crop` says that a face is.
    Raises MaskLightningError if MediaPipe is asked for and missing.
    """
    if source == "mediapipe" and not mediapipe_installed():
        raise MaskLightningError(
            "landmarks='mediapipe' needs MediaPipe, which is not installed; "
            "install mask_lightning[landmarks] or use landmarks='geometry'"
        )
    if source == "mediapipe" or (source == "auto" and mediapipe_installed()):
        return _mesh_landmarks(photo)
    return aligned_landmarks(photo, crop)


def aligned_landmarks(photo: Image.Image, crop: AlignedCrop) -> FaceLandmarks | None:
    """The average face at the place where the crop puts it, moved a little to where the photo shows it."""
    match = match_face(photo, crop)
    return FaceLandmarks.from_points(aligned_points(match)) if match else None


def _mesh_landmarks(photo: Image.Image) -> FaceLandmarks | None:
    with warnings.catch_warnings():
        # MediaPipe calls a deprecated protobuf function on every photo.
        warnings.simplefilter("ignore")
        found = _face_mesh().process(np.ascontiguousarray(photo.convert("RGB"))).multi_face_landmarks
    if not found:
        return None
    width, height = photo.size
    mesh = found[0].landmark
    points = {name: (mesh[i].x * width, mesh[i].y * height) for name, i in MESH_POINTS.items()}
    left, right = mesh[MESH_POINTS["ear_left"]], mesh[MESH_POINTS["ear_right"]]
    yaw = math.degrees(math.atan2(right.z - left.z, right.x - left.x))
    return FaceLandmarks.from_points(points, yaw=yaw, source="mediapipe")


@lru_cache(maxsize=1)
def _face_mesh() -> Any:
    os.environ.setdefault("GLOG_minloglevel", "2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        face_mesh = importlib.import_module("mediapipe").solutions.face_mesh
        return face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1)


def _middle(a: Point, b: Point) -> Point:
    return ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
