"""Sample the people of a portrait folder: everything that stays the same in all photos of a person.

Each cue of gender or age has its own probability: the cues overlap, and none decides alone.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from mask_lightning.synthetic.canvas import Colour, colour_at, mix, shade
from mask_lightning.synthetic.layout import person_folder

Gender: TypeAlias = Literal["male", "female"]
AgeBand: TypeAlias = Literal["young", "middle", "senior"]
HairStyle: TypeAlias = Literal["open", "bun", "tail"]
Beard: TypeAlias = Literal["none", "stubble", "moustache", "goatee", "full"]
Glasses: TypeAlias = Literal["none", "round", "square", "half"]
Earrings: TypeAlias = Literal["none", "stud", "hoop"]
Clothing: TypeAlias = Literal["crew", "vee", "scoop", "shirt", "hoodie", "turtleneck"]

AGE_BANDS: tuple[AgeBand, ...] = ("young", "middle", "senior")
RACES = ("Asian", "Black", "Indian", "LatinoHispanic", "White")
BAND_SHARES = (0.47, 0.46, 0.07)  # of AGE_BANDS
GENDER_SHARES = (0.61, 0.39)  # women, men


@dataclass(frozen=True)
class Features:
    """Skin, bones and parts of a face.

    Widths, lengths and the three measures of the eyes are in face units; all other numbers are from 0 to 1.
    """

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
    """Hair and beard.

    Numbers are from 0 to 1, except ``part``, the position of the parting in face units (negative: left).
    ``length`` 0 is cropped, 0.5 reaches the chin, 1 falls over the shoulders.
    """

    colour: Colour
    grey: float
    length: float
    volume: float
    curl: float
    part: float
    fringe: bool
    tied: HairStyle
    receding: float
    beard: Beard


@dataclass(frozen=True)
class AgeMarks:
    """Strength of each sign of age in a face, from 0 to 1."""

    forehead: float
    crows_feet: float
    folds: float
    bags: float
    spots: float
    sag: float


@dataclass(frozen=True)
class Style:
    """Clothes, glasses and earrings; ``frame`` is the colour of glasses and scarf, ``cloth`` that of the clothes."""

    glasses: Glasses
    frame: Colour
    earrings: Earrings
    clothing: Clothing
    cloth: Colour
    scarf: bool


@dataclass(frozen=True)
class Person:
    """A person with everything that stays the same in all their photos.

    Attributes:
        number: 1 for the first person.
        gender: Label, part of the folder name.
        race: One of ``RACES``; it influences colours and curls, but no shapes.
        age: 18 to 60 years; 60 means 60 or older.
        features: Skin and shape of the face.
        hair: Hair and beard.
        marks: Signs of age.
        style: Clothes, glasses and earrings.
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
        """Folder name ``<id>_<gender>_<race>_<age>``."""
        return person_folder(self.person_id, self.gender, self.race, self.age)


_TONES: tuple[Colour, ...] = (
    (240, 208, 188), (234, 196, 170), (230, 186, 154), (212, 163, 127),
    (182, 132, 98), (146, 101, 72), (112, 76, 56), (86, 58, 45),
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (30, 25, 26), (48, 34, 28), (78, 53, 38), (112, 76, 48), (150, 108, 66), (202, 166, 112),
)  # fmt: skip
_IRISES: tuple[Colour, ...] = ((52, 32, 22), (84, 56, 34), (112, 98, 56), (88, 116, 96), (92, 124, 150))
_CLOTHS: tuple[Colour, ...] = (
    (44, 48, 58), (52, 70, 104), (112, 120, 130), (226, 224, 218), (96, 60, 58), (74, 98, 82),
    (188, 92, 96), (214, 168, 176), (150, 122, 170), (222, 190, 120), (120, 172, 176), (200, 116, 74),
)  # fmt: skip
# Mean position on the scales _TONES, _HAIRS and _IRISES.
_RACE_TONES = {"Asian": 1.5, "Black": 5.6, "Indian": 3.9, "LatinoHispanic": 2.6, "White": 0.7}
_RACE_HAIRS = {"Asian": 0.3, "Black": 0.1, "Indian": 0.3, "LatinoHispanic": 1.3, "White": 2.9}
_RACE_IRISES = {"Asian": 0.3, "Black": 0.1, "Indian": 0.4, "LatinoHispanic": 1.0, "White": 2.6}


def sample_people(people: int, *, seed: int) -> list[Person]:
    """Sample all people of a folder, in random order, with the exact shares of `quotas`.

    Args:
        people: Number of people.
        seed: The same seed samples the same people.
    """
    roles = [role for role, count in quotas(people).items() for _ in range(count)]
    order = np.random.default_rng([seed]).permutation(len(roles))
    return [sample_person(number, *roles[i], seed=seed) for number, i in enumerate(order.tolist(), start=1)]


def quotas(people: int) -> dict[tuple[Gender, AgeBand], int]:
    """Return the number of people of each gender and age band, as imbalanced as in the competition.

    The totals per gender and per age band are exact. Seniors are distributed first, so that both genders have some.
    """
    young, middle, senior = largest_remainder(people, BAND_SHARES)
    women, _ = largest_remainder(people, GENDER_SHARES)
    senior_women, _ = largest_remainder(senior, GENDER_SHARES)
    others = max(young + middle, 1)
    shares = (young / others, 1.0 - young / others)
    young_women, middle_women = largest_remainder(women - senior_women, shares)
    by_band = zip(AGE_BANDS, (young, middle, senior), (young_women, middle_women, senior_women), strict=True)
    counts: dict[tuple[Gender, AgeBand], int] = {}
    for band, count, women_in_band in by_band:
        counts["female", band] = women_in_band
        counts["male", band] = count - women_in_band
    return counts


def largest_remainder(total: int, shares: tuple[float, ...]) -> list[int]:
    """Split ``total`` into integers in proportion to ``shares`` (which sum to 1) by the largest remainder method.

    Example:
        >>> largest_remainder(10, (0.47, 0.46, 0.07))
        [5, 4, 1]
    """
    exact = [total * share for share in shares]
    parts = [int(value + 1e-9) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (parts[i] - exact[i], i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def sample_person(number: int, gender: Gender, band: AgeBand, *, seed: int) -> Person:
    """Sample one person, who depends only on the arguments and not on the other people.

    Args:
        number: 1 for the first person.
        gender: Label.
        band: Age band; "senior" is recorded as 60 years.
        seed: Seed of the folder.
    """
    rng = np.random.default_rng([seed, number])
    race = str(rng.choice(RACES, p=(0.26, 0.16, 0.16, 0.16, 0.26)))
    age = _sample_age(band, rng)
    # 60 means 60 or older, and nobody looks exactly their age.
    looks = age + (5.0 if band == "senior" else 0.0) + rng.normal(0.0, 2.0)
    female = gender == "female"
    return Person(
        number=number,
        gender=gender,
        race=race,
        age=age,
        features=_sample_features(female, race, looks, rng),
        hair=_sample_hair(female, race, looks, rng),
        marks=_sample_marks(looks, rng),
        style=_sample_style(female, looks, rng),
        texture=int(rng.integers(2**31)),
    )


def _sample_age(band: AgeBand, rng: np.random.Generator) -> int:
    if band == "senior":
        return 60
    if band == "young":
        return int(rng.integers(18, 30))
    # As in the competition, more people of the middle band are about 50 than about 40.
    return int(rng.integers(30, 60)) if rng.random() < 0.6 else int(np.clip(rng.normal(51, 4), 30, 59))


def _unit(rng: np.random.Generator, mean: float, spread: float) -> float:
    return float(np.clip(rng.normal(mean, spread), 0.0, 1.0))


def _sample_features(female: bool, race: str, looks: float, rng: np.random.Generator) -> Features:
    lift = 1.0 if female else 0.0
    skin = colour_at(_TONES, _RACE_TONES[race] + rng.normal(0.0, 0.7))
    dull = float(np.clip((looks - 35 + rng.normal(0, 8)) / 60, 0, 0.5))
    return Features(
        skin=mix(skin, (168, 140, 118), 0.35 * dull),
        width=float(rng.normal(0.96 if female else 0.98, 0.03)),
        jaw=_unit(rng, 0.60 - 0.28 * lift, 0.19),
        chin=_unit(rng, 0.58 - 0.22 * lift, 0.2),
        cheeks=_unit(rng, 0.65 - 0.008 * (looks - 20), 0.2),
        eye_size=float(rng.normal(0.205 + 0.010 * lift, 0.012)),
        eye_slant=float(rng.normal(0.02, 0.02)),
        eye_spacing=float(rng.normal(0.425, 0.018)),
        iris=colour_at(_IRISES, _RACE_IRISES[race] + rng.normal(0.0, 0.8)),
        lashes=_unit(rng, 0.28 + 0.30 * lift, 0.2),
        brow_weight=_unit(rng, 0.63 - 0.24 * lift, 0.18),
        brow_arch=_unit(rng, 0.34 + 0.22 * lift, 0.2),
        nose_width=float(rng.normal(0.235 - 0.02 * lift, 0.025)),
        nose_length=float(rng.normal(0.42, 0.03)),
        lip_fullness=_unit(rng, 0.42 + 0.16 * lift - 0.004 * (looks - 35), 0.18),
        lip_tint=_unit(rng, 0.14 + 0.32 * lift, 0.22),
        mouth_width=float(rng.normal(0.36, 0.025)),
        neck_width=float(rng.normal(0.65 - 0.07 * lift, 0.05)),
        shoulder_width=float(rng.normal(2.22 - 0.24 * lift, 0.16)),
    )


def _sample_hair(female: bool, race: str, looks: float, rng: np.random.Generator) -> Hair:
    chances = (0.15, 0.25, 0.60) if female else (0.80, 0.13, 0.07)
    length = _unit(rng, float(rng.choice((0.12, 0.45, 0.85), p=chances)), 0.09)
    colour = colour_at(_HAIRS, _RACE_HAIRS[race] + rng.normal(0.0, 0.9))
    if rng.random() < (0.22 if female else 0.06):
        colour = mix(colour, (148, 70, 40), 0.6)
    grey = float(np.clip((looks - 43 + rng.normal(0.0, 7.0)) / 20, 0.0, 1.0))
    dyed = rng.random() < (0.35 if female else 0.10)
    loss = 0.012 if female else 0.030
    ways: tuple[HairStyle, ...] = ("open", "bun", "tail")
    tied = ways[int(rng.choice(3, p=(0.62, 0.18, 0.20)))] if length > 0.3 else "open"
    curly = rng.random() < (0.75 if race == "Black" else 0.22)
    return Hair(
        colour=colour,
        grey=0.15 * grey if dyed else grey,
        length=length,
        volume=_unit(rng, 0.55 - 0.006 * (looks - 30), 0.2),
        curl=_unit(rng, 0.8 if curly else 0.12, 0.12),
        part=float(rng.choice([-0.45, 0.0, 0.45]) + rng.normal(0, 0.08)),
        fringe=bool(rng.random() < (0.30 if female else 0.18)),
        tied=tied,
        receding=_unit(rng, loss * max(looks - 24, 0.0) + 0.05, 0.16),
        beard=_sample_beard(female, rng),
    )


def _sample_beard(female: bool, rng: np.random.Generator) -> Beard:
    kinds: tuple[Beard, ...] = ("none", "stubble", "moustache", "goatee", "full")
    chances = (1.0, 0.0, 0.0, 0.0, 0.0) if female else (0.44, 0.26, 0.06, 0.08, 0.16)
    return kinds[int(rng.choice(len(kinds), p=chances))]


def _sample_marks(looks: float, rng: np.random.Generator) -> AgeMarks:
    def mark(start: float, years: float) -> float:
        return float(np.clip((looks - start + rng.normal(0.0, 6.0)) / years, 0.0, 1.0))

    return AgeMarks(
        forehead=mark(27, 36),
        crows_feet=mark(26, 36),
        folds=mark(22, 42),
        bags=mark(26, 40),
        spots=mark(38, 30),
        sag=mark(38, 30),
    )


def _sample_style(female: bool, looks: float, rng: np.random.Generator) -> Style:
    glasses: tuple[Glasses, ...] = ("none", "round", "square", "half")
    worn = min(0.28 + 0.004 * (looks - 20), 0.5)
    earrings: tuple[Earrings, ...] = ("none", "stud", "hoop")
    clothing: tuple[Clothing, ...] = ("crew", "vee", "scoop", "shirt", "hoodie", "turtleneck")
    wardrobe = (0.24, 0.2, 0.22, 0.12, 0.1, 0.12) if female else (0.34, 0.08, 0.02, 0.32, 0.18, 0.06)
    # Everybody wears dark and bright clothes, but not equally often.
    bright = rng.random() < (0.58 if female else 0.32)
    cloth = _CLOTHS[int(rng.integers(6, 12) if bright else rng.integers(0, 6))]
    return Style(
        glasses=glasses[int(rng.choice(4, p=(1 - worn, worn * 0.3, worn * 0.45, worn * 0.25)))],
        frame=((28, 26, 30), (92, 62, 44), (150, 142, 132), (120, 40, 52))[int(rng.integers(4))],
        earrings=earrings[int(rng.choice(3, p=(0.5, 0.28, 0.22) if female else (0.93, 0.06, 0.01)))],
        clothing=clothing[int(rng.choice(6, p=wardrobe))],
        cloth=shade(cloth, float(rng.uniform(0.85, 1.1))),
        scarf=bool(rng.random() < 0.06),
    )
