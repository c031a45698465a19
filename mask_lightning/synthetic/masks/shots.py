"""The seven shots of one person: five masks worn right, one worn wrong, none."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mask_lightning.synthetic.masks.exposure import exposed
from mask_lightning.synthetic.masks.framing import framed, jittered, placement
from mask_lightning.synthetic.masks.landmarks import FaceLandmarks
from mask_lightning.synthetic.masks.masks import MaskKind, draw_mask
from mask_lightning.synthetic.masks.wearing import Worn

# How often each is seen; a person may own two of one kind.
KIND_SHARES: dict[MaskKind, float] = {
    "surgical": 0.34,
    "kn95": 0.2,
    "fabric": 0.14,
    "cloth": 0.13,
    "patterned": 0.11,
    "cone": 0.08,
}
WRONG_SHARES: dict[Worn, float] = {"nose_out": 0.4, "chin": 0.34, "eyes": 0.12, "one_ear": 0.14}


@dataclass(frozen=True)
class Shot:
    """One photo to take: its file's stem, the mask (None: no mask) and how it is worn."""

    name: str
    kind: MaskKind | None
    worn: Worn | None


@dataclass(frozen=True)
class TakenShot:
    """A photo taken: 384 x 512 RGB, to be saved at `quality`; `source` counts in the person's photos."""

    shot: Shot
    portrait: Image.Image
    quality: int
    source: int


def plan_shots(rng: np.random.Generator) -> list[Shot]:
    """The seven shots, named as in the competition."""
    kinds = rng.choice(list(KIND_SHARES), size=6, p=list(KIND_SHARES.values()))
    worn = rng.choice(list(WRONG_SHARES), p=list(WRONG_SHARES.values()))
    right = [Shot(f"mask{i + 1}", kind.item(), "right") for i, kind in enumerate(kinds[:5])]
    return [*right, Shot("incorrect_mask", kinds[5].item(), worn.item()), Shot("normal", None, None)]


def take_shots(
    photos: Sequence[tuple[Image.Image, FaceLandmarks]], *, person_id: str, seed: int
) -> Iterator[TakenShot]:
    """Seven shots of one person from one or more photos in turn; the same for the same seed and person."""
    digest = hashlib.sha256(person_id.encode()).digest()
    rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
    shots = plan_shots(rng)
    for i, (shot, shot_rng) in enumerate(zip(shots, rng.spawn(len(shots)), strict=True)):
        source = i % len(photos)
        portrait = take_shot(*photos[source], shot, shot_rng)
        yield TakenShot(shot, portrait, int(shot_rng.integers(82, 96)), source)


def take_shot(photo: Image.Image, face: FaceLandmarks, shot: Shot, rng: np.random.Generator) -> Image.Image:
    """One shot with its own framing and light."""
    matrix = jittered(placement(photo.size, face), rng)
    portrait = framed(photo, matrix)
    if shot.kind is not None and shot.worn is not None:
        portrait = draw_mask(portrait, face.moved(matrix), kind=shot.kind, worn=shot.worn, rng=rng)
    return exposed(portrait, rng)
