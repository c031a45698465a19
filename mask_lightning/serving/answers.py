"""Answers of the server: faces of photos with their probabilities, computed for several requests at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydantic import BaseModel, Field
from torch.nn import functional as F

import mask_lightning
from mask_lightning.data.images import PhotoBytes, open_photo
from mask_lightning.data.prepared import read_prepared
from mask_lightning.data.transforms import TransformSpec, middle_size
from mask_lightning.errors import PhotoError
from mask_lightning.inference.exported import MANY_PHOTOS, Model, load_model, with_engine
from mask_lightning.inference.many_faces import crop_faces
from mask_lightning.inference.predict import with_options
from mask_lightning.serving.uploads import Limits, RefusedError, Upload, keep_photo, open_upload, undecodable
from mask_lightning.settings.export import Engine

NETWORK_BATCH = 64  # faces per call of the network
DIGITS = 6
CHECKPOINTS = "checkpoints"  # folder of the checkpoints in a run

Pixels = npt.NDArray[np.uint8]


class TaskAnswer(BaseModel):
    """Prediction of one task for one face."""

    label: str = Field(description="the most probable class")
    probability: float = Field(description="of the label")
    probabilities: dict[str, float] = Field(description="of every class; they sum to 1")


class FaceAnswer(BaseModel):
    """A face, or the whole crop if the network was not trained on detected faces."""

    box: tuple[float, float, float, float] = Field(
        description="left, top, right, bottom in pixels of the upright photo"
    )
    score: float | None = Field(description="of the face detector, 0 to 1; null for a crop")
    landmarks: list[tuple[float, float]] | None = Field(
        description="left eye, right eye, nose, left and right corner of the mouth, as seen; null for a crop"
    )
    tasks: dict[str, TaskAnswer]


class PhotoAnswer(BaseModel):
    """The faces of a photo, largest first; none if no face was found."""

    name: str
    width: int = Field(description="of the upright photo in pixels")
    height: int
    faces: list[FaceAnswer]


class Answer(BaseModel):
    """Answer to POST /predict, photos in the order of the request."""

    photos: list[PhotoAnswer]


class Info(BaseModel):
    """Answer to GET /info."""

    name: str = "mask_lightning"
    version: str = mask_lightning.__version__
    run: str = Field(description="name of the run's folder")
    checkpoint_sha256: str
    backbone: str
    engine: str
    tasks: dict[str, list[str]] = Field(description="task -> classes")
    crop: str = Field(description='part of a photo that the network sees; "face": every detected face')
    image_size: int
    calibrated: bool = Field(description="true if the temperatures of `evaluate calibrate=true` are applied")
    keeps_photos: bool = Field(description="true if the server stores the photos (option `keep`)")
    limits: dict[str, float]


@dataclass(frozen=True)
class ModelOptions:
    """How a worker loads and runs a network; plain values, which are sent to its process.

    Attributes:
        ckpt: run folder, .ckpt file or exported model.
        engine, calibrated, max_faces, min_size: as the options of `serve`.
        cache: folder of the networks that an engine has exported.
        keep: folder for the photos; None: they are not stored.
        limits: of a request.
    """

    ckpt: Path
    cache: Path
    engine: Engine = "auto"
    calibrated: bool = True
    max_faces: int | None = 50
    min_size: int = 20
    keep: Path | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, eq=False)
class FoundFace:
    """A face of a photo, prepared for the network: `pixels` (S, S, 3); the rest as in `FaceAnswer`."""

    box: tuple[float, float, float, float]
    pixels: Pixels
    score: float | None = None
    landmarks: list[tuple[float, float]] | None = None


@dataclass(frozen=True, eq=False)
class DecodedPhoto:
    """A photo of a request with its faces, before the network has seen them."""

    name: str
    width: int
    height: int
    faces: list[FoundFace]


class Predictor:
    """A network that answers requests.

    Args:
        options: how to load it.
        device: of a checkpoint's network.

    Raises:
        MaskLightningError: as `inference.exported.load_model` and `with_engine`.
    """

    def __init__(self, options: ModelOptions, device: torch.device) -> None:
        self.options = options
        loaded = load_model(options.ckpt, device, engine=options.engine)
        # The engine is chosen as for many photos: a server runs for long.
        model = with_engine(loaded, options.engine, cache=options.cache, photos=MANY_PHOTOS)
        self.model: Model = with_options(model, "none", calibrated=options.calibrated)
        blank = torch.zeros(1, 3, self.spec.size, self.spec.size, dtype=torch.uint8, device=device)
        self.model.log_probs(blank)  # compiles what a runtime compiles on its first call, before the first request

    @property
    def spec(self) -> TransformSpec:
        """Preprocessing of the network."""
        return self.model.spec

    def info(self) -> Info:
        """Return the description of the network."""
        source, limits = self.model.source, self.options.limits
        runtime = getattr(self.model, "runtime", None)
        return Info(
            run=_run_name(Path(source.checkpoint)),
            checkpoint_sha256=source.sha256,
            backbone=source.backbone,
            engine="torch" if runtime is None else runtime.name,
            tasks=self.model.space.to_plain(),
            crop=self.spec.crop,
            image_size=self.spec.size,
            calibrated=bool(source.temperatures) or bool(getattr(self.model, "temperatures", {})),
            keeps_photos=self.options.keep is not None,
            limits={
                "photos": limits.photos,
                "photo_mb": limits.photo_mb,
                "request_mb": limits.request_mb,
                "megapixels": limits.megapixels,
            },
        )

    def decode(self, uploads: Sequence[Upload]) -> list[DecodedPhoto]:
        """Decode the photos of a request, and find their faces.

        Raises:
            RefusedError: a photo cannot be decoded, is too large, or cannot be stored.
        """
        return [self._decode(upload) for upload in uploads]

    def _decode(self, upload: Upload) -> DecodedPhoto:
        source, kind = open_upload(upload, self.options.limits)
        try:
            photo = self._with_faces(source)
        except PhotoError as error:
            raise undecodable(upload.name, error) from error
        if self.options.keep is not None:
            keep_photo(upload, kind, self.options.keep)
        return photo

    def _with_faces(self, source: PhotoBytes) -> DecodedPhoto:
        if self.spec.crop == "face":
            photo = open_photo(source)
            faces = find_faces(photo, self.spec, self.options)
            return DecodedPhoto(source.name, photo.width, photo.height, faces)
        (image,), size = read_prepared(source, [self.spec])
        whole = FoundFace(crop_box(size.width, size.height, self.spec), np.array(image))
        return DecodedPhoto(source.name, size.width, size.height, [whole])

    def answer(self, requests: Sequence[list[DecodedPhoto]]) -> list[Answer]:
        """Predict the faces of all requests together; one answer per request."""
        faces = [face for photos in requests for photo in photos for face in photo.faces]
        rows = iter(self._tasks(faces))
        return [
            Answer(
                photos=[
                    PhotoAnswer(
                        name=photo.name,
                        width=photo.width,
                        height=photo.height,
                        faces=[
                            FaceAnswer(box=face.box, score=face.score, landmarks=face.landmarks, tasks=next(rows))
                            for face in photo.faces
                        ],
                    )
                    for photo in photos
                ]
            )
            for photos in requests
        ]

    def _tasks(self, faces: Sequence[FoundFace]) -> list[dict[str, TaskAnswer]]:
        if not faces:
            return []
        probs = self.probabilities(np.stack([face.pixels for face in faces]))
        return [
            {task.name: _task_answer(task.classes, probs[task.name][i]) for task in self.model.space.tasks}
            for i in range(len(faces))
        ]

    @torch.inference_mode()
    def probabilities(self, pixels: Pixels) -> dict[str, npt.NDArray[np.float32]]:
        """Return task -> probabilities (B, C) of prepared faces uint8 (B, S, S, 3)."""
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        batches = (images[i : i + NETWORK_BATCH] for i in range(0, len(images), NETWORK_BATCH))
        parts = [self.model.log_probs(batch.to(self.model.device)) for batch in batches]
        found = {}
        for task in self.model.space.names:
            log_probs = torch.cat([part[task] for part in parts]).cpu()
            temperature = self.model.source.temperatures.get(task)
            if temperature is not None:
                log_probs = F.log_softmax(log_probs / temperature, dim=1)
            found[task] = log_probs.exp().numpy()
        return found


def _run_name(checkpoint: Path) -> str:
    """Return the name of the folder of a run or of an exported model; not its path, which is nobody's business."""
    folder = checkpoint.parent
    return (folder.parent if folder.name == CHECKPOINTS else folder).name or checkpoint.stem


def describe_model(options: ModelOptions, device: str) -> Info:
    """Load a network as a worker does and describe it; an engine's export is in the cache afterwards.

    Raises:
        MaskLightningError: as `Predictor`.
    """
    return Predictor(options, torch.device(device)).info()


def find_faces(photo: Image.Image, spec: TransformSpec, options: ModelOptions) -> list[FoundFace]:
    """Return the faces of an upright RGB photo, largest first."""
    found = crop_faces(photo, spec, max_faces=options.max_faces, min_size=options.min_size)
    return [
        FoundFace(
            tuple(round(float(side), 1) for side in face.box),  # type: ignore[arg-type]
            face.pixels,
            round(float(face.score), 4),
            [(round(float(x), 1), round(float(y), 1)) for x, y in face.landmarks],
        )
        for face in found
    ]


def crop_box(width: int, height: int, spec: TransformSpec) -> tuple[float, float, float, float]:
    """Return the part of a photo that a network sees whose crop is not "face", inside the photo.

    Example:
        >>> crop_box(384, 512, TransformSpec(380, 256))
        (64.0, 66.0, 320.0, 446.0)
        >>> crop_box(100, 100, TransformSpec(380, 256))
        (0.0, 0.0, 100.0, 100.0)
    """
    crop_height, crop_width = middle_size((width, height), spec)
    left, top = max((width - crop_width) // 2, 0), max((height - crop_height) // 2, 0)
    return float(left), float(top), float(min(left + crop_width, width)), float(min(top + crop_height, height))


def _task_answer(classes: Sequence[str], probs: npt.NDArray[np.float32]) -> TaskAnswer:
    best = int(probs.argmax())
    return TaskAnswer(
        label=classes[best],
        probability=round(float(probs[best]), DIGITS),
        probabilities={name: round(float(value), DIGITS) for name, value in zip(classes, probs, strict=True)},
    )


def decode_or_refuse(predictor: Predictor, uploads: Sequence[Upload]) -> list[DecodedPhoto] | RefusedError:
    """Return the decoded photos of a request, or the error for it, so that one request does not fail its batch."""
    try:
        return predictor.decode(uploads)
    except RefusedError as refused:
        return refused


def answer_all(
    predictor: Predictor, requests: Sequence[list[DecodedPhoto] | RefusedError]
) -> list[Answer | RefusedError]:
    """Answer the requests that were decoded; the others keep their error."""
    answers = iter(predictor.answer([each for each in requests if not isinstance(each, RefusedError)]))
    return [each if isinstance(each, RefusedError) else next(answers) for each in requests]
