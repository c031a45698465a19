"""Who is drawn: a person with everything that stays the same from shot to shot."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mask_lightning.synthetic.portraits.colours import Colour

Gender: TypeAlias = Literal["male", "female"]
Band: TypeAlias = Literal["young", "middle", "senior"]
Tied: TypeAlias = Literal["open", "bun", "tail"]
Beard: TypeAlias = Literal["none", "stubble", "moustache", "goatee", "full"]
Glasses: TypeAlias = Literal["none", "round", "square", "half"]
Earrings: TypeAlias = Literal["none", "stud", "hoop"]
Clothing: TypeAlias = Literal["crew", "vee", "scoop", "shirt", "hoodie", "turtleneck"]

BANDS: tuple[Band, ...] = ("young", "middle", "senior")
RACES = ("Asian", "Black", "Indian", "LatinoHispanic", "White")


@dataclass(frozen=True)
class Features:
    """Bones, skin and the parts of a face; lengths in face units, the rest from 0 to 1."""

    skin: Colour
    width: float
    jaw: float
    chin: float
    cheeks: float
    eye_size: float
    eye_slant: float
    eye_spacing: float
    iris: Colour
    lashes: float
    brow_weight: float
    brow_arch: float
    nose_width: float
    nose_length: float
    lip_fullness: float
    lip_tint: float
    mouth_width: float
    neck_width: float
    shoulder_width: float


@dataclass(frozen=True)
class Hair:
    """Hair of head and beard; ``length`` 0 is cropped, 0.5 reaches the chin, 1 falls over the shoulders."""

    colour: Colour
    grey: float
    length: float
    volume: float
    curl: float
    part: float
    fringe: bool
    tied: Tied
    receding: float
    beard: Beard


@dataclass(frozen=True)
class AgeMarks:
    """What the years leave in a face, each from 0 to 1."""

    forehead: float
    crows_feet: float
    folds: float
    bags: float
    spots: float
    sag: float


@dataclass(frozen=True)
class Style:
    """What a person wears besides a mask."""

    glasses: Glasses
    frame: Colour
    earrings: Earrings
    clothing: Clothing
    cloth: Colour
    scarf: bool


@dataclass(frozen=True)
class Person:
    """A person with everything that stays the same from shot to shot.

    Attributes:
        number: 1 for the first person.
        gender: As in the folder's name.
        race: One of ``RACES``; it moves colours loosely and shapes not at all.
        age: 18 to 60; 60 stands for sixty and over.
        texture: Seed of hair strands, spots and backgrounds.
    """

    number: int
    gender: Gender
    race: str
    age: int
    features: Features
    hair: Hair
    marks: AgeMarks
    style: Style
    texture: int

    @property
    def person_id(self) -> str:
        """Six digits, as in the competition."""
        return f"{self.number:06d}"

    @property
    def folder(self) -> str:
        """Name of the person's folder: ``<id>_<gender>_<race>_<age>``."""
        return f"{self.person_id}_{self.gender}_{self.race}_{self.age}"
