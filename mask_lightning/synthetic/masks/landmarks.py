"""Find the landmarks of a face: with MediaPipe or the face detector if installed, otherwise in aligned crops.

The detector finds five landmarks anywhere in a photo; the average face, moved in space so that it fits them, has the
others. Without both, faces are found in aligned photo sets only: their eyes are at about the same place in every photo.
A schematic face (dark eyes, brows and mouth, bright cheeks and nose) is correlated with the photo around it. The best
match corrects the position; a poor match means that there is no face.

Left and right are those of the photo, not of the person. All points are (x, y) in pixels.
"""

import importlib.util
import math
import os
import warnings
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, cast

import numpy as np
from PIL import Image, ImageFilter

from mask_lightning.errors import DetectorError, MaskLightningError
from mask_lightning.faces.detector import load_detector, require_detector
from mask_lightning.settings.mask_faces import CropName, LandmarkSource

Point = tuple[float, float]

# Indices in MediaPipe's face mesh: https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker
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

GRID = 24  # resolution of the correlation: pixels per eye distance
REACH = 5  # search radius around the expected place, in grid pixels
# A face: correlation of at least MATCH_SURE, or of MATCH_WITH_SKIN where SKIN_SHARE of the face has the colour of skin.
MATCH_SURE, MATCH_WITH_SKIN, SKIN_SHARE = 0.25, 0.08, 0.3

# Average face relative to the middle of the eyes, in eye distances (outer corner to outer corner).
AVERAGE_FACE = {
    "eye_left": (-0.5, 0.0),
    "eye_right": (0.5, 0.0),
    "bridge": (0.0, 0.035),
    "nose_tip": (0.0, 0.425),
    "mouth_left": (-0.316, 0.69),
    "mouth_right": (0.316, 0.69),
    "chin": (0.0, 1.206),
    "jaw_left": (-0.61, 0.823),
    "jaw_right": (0.61, 0.823),
    "ear_left": (-0.752, 0.19),
    "ear_right": (0.752, 0.19),
}

# Distance towards the camera from the outer eye corners, in eye distances: MediaPipe's canonical face model.
DEPTHS = {
    "eye_left": 0.0,
    "eye_right": 0.0,
    "bridge": 0.294,
    "nose_tip": 0.484,
    "mouth_left": 0.125,
    "mouth_right": 0.125,
    "chin": 0.123,
    "jaw_left": -0.428,
    "jaw_right": -0.428,
    "ear_left": -0.631,
    "ear_right": -0.631,
}
# The detector's landmarks (eyes, nose, corners of the mouth) on the average face: medians over 600 photos of FairFace.
DETECTED = np.array(
    [[-0.359, -0.007, 0.06], [0.359, -0.007, 0.06], [0, 0.355, 0.45], [-0.302, 0.685, 0.125], [0.302, 0.685, 0.125]]
)
MIN_DETECTED = 20.0  # eye distance in pixels; smaller faces are too coarse for a portrait

# Schematic face: soft spots (x, y, width, height, brightness), in eye distances.
SPOTS = (
    (-0.345, 0.0, 0.13, 0.07, -1.0),
    (0.345, 0.0, 0.13, 0.07, -1.0),
    (-0.37, -0.2, 0.17, 0.05, -0.6),
    (0.37, -0.2, 0.17, 0.05, -0.6),
    (0.0, 0.69, 0.22, 0.05, -0.8),
    (-0.1, 0.47, 0.06, 0.04, -0.5),
    (0.1, 0.47, 0.06, 0.04, -0.5),
    (0.0, 0.25, 0.07, 0.2, 0.5),
    (-0.42, 0.36, 0.15, 0.13, 0.5),
    (0.42, 0.36, 0.15, 0.13, 0.5),
    (0.0, -0.35, 0.35, 0.1, 0.4),
    (0.0, 0.95, 0.2, 0.08, 0.3),
)
# Offset of the eye corners from the schematic face.
SPOT_OFFSET = (0.017, 0.031)


@dataclass(frozen=True)
class FaceLandmarks:
    """Landmarks that a mask needs, as (x, y) in pixels.

    Attributes:
        eye_left: Outer corner of the eye; eye_right accordingly.
        yaw: Rotation of the head to the side in degrees; None if unknown.
        source: "mediapipe", "detector" or "geometry".
    """

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
        """Create the landmarks from their points by name."""
        return cls(**cast("dict[str, Any]", points), yaw=yaw, source=source)

    @property
    def eye_distance(self) -> float:
        """Distance between the outer eye corners in pixels, the unit of everything that is drawn."""
        return math.dist(self.eye_left, self.eye_right)

    @property
    def eye_centre(self) -> Point:
        """Middle between the eyes."""
        return _middle(self.eye_left, self.eye_right)

    @property
    def mouth(self) -> Point:
        """Middle between the corners of the mouth."""
        return _middle(self.mouth_left, self.mouth_right)

    def moved(self, matrix: np.ndarray) -> "FaceLandmarks":
        """Landmarks after the affine map `matrix` (2, 3) from old to new pixels."""
        points = {name: getattr(self, name) for name in point_names()}
        moved = {name: matrix[:, :2] @ np.asarray(point) + matrix[:, 2] for name, point in points.items()}
        pixels = {name: (float(x), float(y)) for name, (x, y) in moved.items()}
        return FaceLandmarks.from_points(pixels, yaw=self.yaw, source=self.source)


def point_names() -> list[str]:
    """Names of the points in FaceLandmarks."""
    return [field.name for field in fields(FaceLandmarks) if field.name not in ("yaw", "source")]


@dataclass(frozen=True)
class AlignedCrop:
    """Place of the eyes in the photos of an aligned face set.

    Attributes:
        eye_x: Middle of the eyes, as a fraction of the width.
        eye_y: Middle of the eyes, as a fraction of the height.
        eye_distance: Distance of the outer eye corners, as a fraction of the width.
    """

    eye_x: float
    eye_y: float
    eye_distance: float


# FairFace uses dlib's face chips: eye corners .739 of a box apart, .2135 below its top; its margin widens the box.
CROPS: dict[CropName, AlignedCrop] = {
    "fairface_025": AlignedCrop(eye_x=0.493, eye_y=0.309, eye_distance=0.493),
    "fairface_125": AlignedCrop(eye_x=0.497, eye_y=0.418, eye_distance=0.211),
    "utkface": AlignedCrop(eye_x=0.5, eye_y=0.42, eye_distance=0.43),
    "portrait": AlignedCrop(eye_x=0.5, eye_y=0.402, eye_distance=0.367),
}


def mediapipe_installed() -> bool:
    """Return True if MediaPipe (the extra `landmarks`) is installed."""
    return importlib.util.find_spec("mediapipe") is not None


def find_landmarks(photo: Image.Image, crop: AlignedCrop, *, source: LandmarkSource = "auto") -> FaceLandmarks | None:
    """Find the face in a photo.

    Args:
        photo: RGB.
        crop: Place of the eyes, for the source "geometry".
        source: "auto" is the first of "mediapipe", "detector" and "geometry" that is installed.

    Returns:
        Landmarks of the largest face in pixels of the photo, or None if there is no face.

    Raises:
        MaskLightningError: If MediaPipe or the detector is requested but not installed.
    """
    source = choose_source(source)
    if source == "mediapipe" and not mediapipe_installed():
        raise MaskLightningError(
            "landmarks='mediapipe' needs MediaPipe, which is not installed; "
            "install mask_lightning[landmarks] or use landmarks='geometry'"
        )
    if source == "mediapipe":
        return _mesh_landmarks(photo)
    return detected_landmarks(photo) if source == "detector" else aligned_landmarks(photo, crop)


def choose_source(source: LandmarkSource) -> LandmarkSource:
    """Return the source that "auto" stands for on this machine; others unchanged."""
    if source != "auto":
        return source
    if mediapipe_installed():
        return "mediapipe"
    try:
        require_detector()
    except DetectorError:
        return "geometry"
    return "detector"


def detected_landmarks(photo: Image.Image) -> FaceLandmarks | None:
    """Landmarks of the largest face that the detector finds, of at least MIN_DETECTED; None if there is none."""
    faces = load_detector().find(photo, max_faces=1)
    if not faces:
        return None
    face = fit_average_face(faces[0].landmarks)
    return face if face.eye_distance >= MIN_DETECTED else None


def fit_average_face(detected: np.ndarray) -> FaceLandmarks:
    """Fit the average face in space to five detected landmarks, by least squares.

    The fit is affine, so that a face may be longer or wider than the average. The nose tells how far the head turns.

    Args:
        detected: (5, 2) in pixels: eyes, nose, corners of the mouth, as in `DETECTED`.
    """
    solution = np.linalg.lstsq(np.column_stack([DETECTED, np.ones(5)]), np.asarray(detected, np.float64), rcond=None)
    right, down, near, origin = solution[0]
    near = near - down * (near @ down) / (down @ down) / 2  # noses differ in length, so nodding is half believed
    yaw = math.degrees(math.atan2(near @ right, right @ right))
    points = {
        name: tuple(float(each) for each in x * right + y * down + DEPTHS[name] * near + origin)
        for name, (x, y) in AVERAGE_FACE.items()
    }
    return FaceLandmarks.from_points(cast("dict[str, Point]", points), yaw=yaw, source="detector")


def aligned_landmarks(photo: Image.Image, crop: AlignedCrop) -> FaceLandmarks | None:
    """Landmarks of the average face at the crop's place, shifted to the best match; None if nothing matches."""
    match = match_face(photo, crop)
    return FaceLandmarks.from_points(aligned_points(match)) if match else None


def _mesh_landmarks(photo: Image.Image) -> FaceLandmarks | None:
    with warnings.catch_warnings():
        # MediaPipe calls a deprecated protobuf function for every photo.
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


@dataclass(frozen=True)
class FaceMatch:
    """Match of the schematic face: middle and distance of the eyes in pixels, correlation from -1 to 1."""

    x: float
    y: float
    eye_distance: float
    score: float


def match_face(photo: Image.Image, crop: AlignedCrop) -> FaceMatch | None:
    """Find the best match near the crop's place in an RGB photo; None if it is too poor for a face."""
    width, height = photo.size
    x, y, unit = crop.eye_x * width, crop.eye_y * height, crop.eye_distance * width
    scores = _scores_around(photo, x, y, unit)
    dy, dx = (np.indices(scores.shape) - REACH) / GRID
    best = np.unravel_index(np.argmax(scores - dx**2 - dy**2), scores.shape)
    score = float(scores[best])
    if score < MATCH_WITH_SKIN or (score < MATCH_SURE and _skin_share(photo, x, y, unit) < SKIN_SHARE):
        return None
    x += (float(dx[best]) + SPOT_OFFSET[0]) * unit
    y += (float(dy[best]) + SPOT_OFFSET[1]) * unit
    return FaceMatch(x, y, unit, score)


def aligned_points(match: FaceMatch) -> dict[str, tuple[float, float]]:
    """Points of the average face in pixels, by name, at the place and size of `match`."""
    unit = match.eye_distance
    return {name: (match.x + x * unit, match.y + y * unit) for name, (x, y) in AVERAGE_FACE.items()}


def _scores_around(photo: Image.Image, x: float, y: float, unit: float) -> np.ndarray:
    face = _schematic_face()
    height, width = face.shape[0] + 2 * REACH, face.shape[1] + 2 * REACH
    step = unit / GRID
    corner = (x - 0.7 * unit - REACH * step, y - 0.45 * unit - REACH * step)
    smooth = photo.convert("L").filter(ImageFilter.GaussianBlur(step / 3))
    matrix = (step, 0, corner[0], 0, step, corner[1])
    patch = smooth.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    windows = np.lib.stride_tricks.sliding_window_view(_local_contrast(patch), face.shape)
    windows = windows - windows.mean((-1, -2), keepdims=True)
    lengths = np.sqrt((windows**2).sum((-1, -2)))
    return np.asarray(np.einsum("abij,ij->ab", windows, face) / np.maximum(lengths, 1e-6))


def _local_contrast(patch: Image.Image) -> np.ndarray:
    """Each pixel minus its surroundings, divided by the local contrast: independent of the light."""
    grey = np.asarray(patch, dtype=np.float32) / 255
    detail = _blurred(grey, GRID * 0.03) - _blurred(grey, GRID * 0.45)
    return np.asarray(detail / np.sqrt(_blurred(detail**2, GRID * 0.6) + 1e-4))


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    # Unlike canvas.blur not limited to 8 bits, which the small contrasts of this grid need.
    reach = max(1, round(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    for axis in (0, 1):
        padded = np.pad(values, [(reach, reach) if i == axis else (0, 0) for i in (0, 1)], mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(weights), axis=axis)
        values = np.asarray(windows @ (weights / weights.sum()))
    return values


@lru_cache(maxsize=1)
def _schematic_face() -> np.ndarray:
    y, x = np.mgrid[-0.45 : 1.15 : 1 / GRID, -0.7 : 0.7001 : 1 / GRID]
    spots = [w * np.exp(-(((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2) / 2) for cx, cy, sx, sy, w in SPOTS]
    face = np.sum(spots, axis=0)
    face -= face.mean()
    return np.asarray(face / np.linalg.norm(face))


def _skin_share(photo: Image.Image, x: float, y: float, unit: float) -> float:
    """Share of the pixels in the middle of the face with a hue between red and yellow, like skin of any tone."""
    box = (int(x - 0.5 * unit), int(y), int(x + 0.5 * unit), int(y + 0.9 * unit))
    red, green, blue = np.asarray(photo.convert("RGB").crop(box), dtype=np.float32).reshape(-1, 3).T
    return float(np.mean((red > green) & (green > 0.9 * blue) & (red > 1.1 * blue)))
