from collections import Counter

import pytest

from mask_lightning.synthetic.portraits.people import (
    AGE_BANDS,
    RACES,
    AgeBand,
    Gender,
    Person,
    largest_remainder,
    quotas,
    sample_people,
    sample_person,
)


def band(age: int) -> AgeBand:
    return "young" if age < 30 else "middle" if age < 60 else "senior"


@pytest.mark.parametrize("people", [1, 7, 60])
def test_people_match_the_quotas(people: int) -> None:
    persons = sample_people(people, seed=3)
    counts = Counter((person.gender, band(person.age)) for person in persons)
    assert counts == Counter(quotas(people))
    assert [person.person_id for person in persons] == [f"{n:06d}" for n in range(1, people + 1)]


def test_ages_and_races_stay_in_their_ranges() -> None:
    persons = sample_people(300, seed=0)
    assert {person.race for person in persons} == set(RACES)
    assert min(person.age for person in persons) >= 18
    assert max(person.age for person in persons) == 60


@pytest.mark.parametrize(("gender", "age_band"), [("male", "young"), ("female", "senior")])
def test_a_person_is_independent_of_the_others(gender: Gender, age_band: AgeBand) -> None:
    assert sample_person(5, gender, age_band, seed=1) == sample_person(5, gender, age_band, seed=1)
    assert sample_person(5, gender, age_band, seed=1) != sample_person(5, gender, age_band, seed=2)
    assert sample_person(5, gender, age_band, seed=1) != sample_person(6, gender, age_band, seed=1)


def test_each_person_of_a_folder_is_sampled_alone() -> None:
    for person in sample_people(20, seed=9):
        assert person == sample_person(person.number, person.gender, band(person.age), seed=9)


@pytest.fixture(scope="module")
def many_people() -> list[Person]:
    return sample_people(400, seed=0)


@pytest.mark.parametrize("cue", ["long hair", "thick brows", "shadowed chin"])
def test_cues_of_gender_overlap(many_people: list[Person], cue: str) -> None:
    has = {
        "long hair": lambda person: person.hair.length > 0.3,
        "thick brows": lambda person: person.features.brow_weight > 0.5,
        "shadowed chin": lambda person: person.hair.beard != "none",
    }[cue]
    shares = {
        gender: sum(map(has, of)) / len(of)
        for gender in ("female", "male")
        for of in [[person for person in many_people if person.gender == gender]]
    }
    assert abs(shares["female"] - shares["male"]) > 0.2
    assert min(shares["male"], 1 - shares["male"]) > 0.02


def test_marks_of_age_grow_but_overlap(many_people: list[Person]) -> None:
    folds = {name: [p.marks.folds for p in many_people if band(p.age) == name] for name in ("young", "senior")}
    greys = {name: [p.hair.grey for p in many_people if band(p.age) == name] for name in ("middle", "senior")}
    assert sum(folds["young"]) / len(folds["young"]) < 0.3 < 0.7 < sum(folds["senior"]) / len(folds["senior"])
    assert max(greys["middle"]) > min(greys["senior"])


@pytest.mark.parametrize(
    ("total", "shares", "want"),
    [
        (10, (0.5, 0.5), [5, 5]),
        (1, (0.47, 0.46, 0.07), [1, 0, 0]),
        (3, (1 / 3, 1 / 3, 1 / 3), [1, 1, 1]),
        (60, (0.47, 0.46, 0.07), [28, 28, 4]),
        (0, (0.61, 0.39), [0, 0]),
    ],
)
def test_largest_remainder_is_exact(total: int, shares: tuple[float, ...], want: list[int]) -> None:
    assert largest_remainder(total, shares) == want


@pytest.mark.parametrize(
    ("people", "women", "bands"),
    [
        (1, 1, (1, 0, 0)),
        (10, 6, (5, 4, 1)),
        (30, 18, (14, 14, 2)),
        (60, 37, (28, 28, 4)),
        (100, 61, (47, 46, 7)),
        (1000, 610, (470, 460, 70)),
    ],
)
def test_totals_per_gender_and_band_are_exact(people: int, women: int, bands: tuple[int, ...]) -> None:
    counts = quotas(people)
    assert sum(counts["female", band] for band in AGE_BANDS) == women
    assert tuple(counts["female", band] + counts["male", band] for band in AGE_BANDS) == bands


@pytest.mark.parametrize(("start", "stop", "least"), [(1, 30, 0), (30, 60, 1), (60, 301, 2)])
def test_every_gender_has_people_of_every_band(start: int, stop: int, least: int) -> None:
    for people in range(start, stop):
        counts = quotas(people)
        assert min(counts.values()) >= least
        assert sum(counts.values()) == people
