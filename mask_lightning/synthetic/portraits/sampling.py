"""How people come to look as they do.

Every cue of gender or age is drawn with its own chance, so that the cues overlap and none decides alone.
"""

import numpy as np

from mask_lightning.synthetic.portraits.colours import Colour, along, mix, shade
from mask_lightning.synthetic.portraits.people import (
    RACES,
    AgeMarks,
    Band,
    Beard,
    Clothing,
    Earrings,
    Features,
    Gender,
    Glasses,
    Hair,
    Person,
    Style,
    Tied,
)
from mask_lightning.synthetic.portraits.quotas import quotas

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
# Mean position on the scales of skin, hair and iris, and how far people spread around it.
_RACE_TONES = {"Asian": 1.5, "Black": 5.6, "Indian": 3.9, "LatinoHispanic": 2.6, "White": 0.7}
_RACE_HAIRS = {"Asian": 0.3, "Black": 0.1, "Indian": 0.3, "LatinoHispanic": 1.3, "White": 2.9}
_RACE_IRISES = {"Asian": 0.3, "Black": 0.1, "Indian": 0.4, "LatinoHispanic": 1.0, "White": 2.6}


def sample_people(people: int, *, seed: int) -> list[Person]:
    """Sample everybody of a folder: exact quotas in a random order, each person from (seed, number)."""
    roles = [role for role, count in quotas(people).items() for _ in range(count)]
    order = np.random.default_rng([seed]).permutation(len(roles))
    return [sample_person(number, *roles[i], seed=seed) for number, i in enumerate(order.tolist(), start=1)]


def sample_person(number: int, gender: Gender, band: Band, *, seed: int) -> Person:
    """Sample one person; depends on nothing but the arguments."""
    rng = np.random.default_rng([seed, number])
    race = str(rng.choice(RACES, p=(0.26, 0.16, 0.16, 0.16, 0.26)))
    age = _sample_age(band, rng)
    # People recorded as 60 are sixty and over, and nobody looks exactly their age.
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


def _sample_age(band: Band, rng: np.random.Generator) -> int:
    if band == "senior":
        return 60
    if band == "young":
        return int(rng.integers(18, 30))
    # As in the competition, the middle band has more people around fifty than around forty.
    return int(rng.integers(30, 60)) if rng.random() < 0.6 else int(np.clip(rng.normal(51, 4), 30, 59))


def _unit(rng: np.random.Generator, mean: float, spread: float) -> float:
    return float(np.clip(rng.normal(mean, spread), 0.0, 1.0))


def _sample_features(female: bool, race: str, looks: float, rng: np.random.Generator) -> Features:
    lift = 1.0 if female else 0.0
    skin = along(_TONES, _RACE_TONES[race] + rng.normal(0.0, 0.7))
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
        iris=along(_IRISES, _RACE_IRISES[race] + rng.normal(0.0, 0.8)),
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
    colour = along(_HAIRS, _RACE_HAIRS[race] + rng.normal(0.0, 0.9))
    if rng.random() < (0.22 if female else 0.06):
        colour = mix(colour, (148, 70, 40), 0.6)
    grey = float(np.clip((looks - 43 + rng.normal(0.0, 7.0)) / 20, 0.0, 1.0))
    dyed = rng.random() < (0.35 if female else 0.10)
    loss = 0.012 if female else 0.030
    ways: tuple[Tied, ...] = ("open", "bun", "tail")
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
    # Dark and bright cloths are worn by everybody, only not equally often.
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
