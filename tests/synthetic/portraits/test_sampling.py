from collections import Counter

import pytest

from mask_lightning.synthetic.portraits.people import RACES, Band, Gender
from mask_lightning.synthetic.portraits.quotas import quotas
from mask_lightning.synthetic.portraits.sampling import sample_people, sample_person


def band(age: int) -> Band:
    return "young" if age < 30 else "middle" if age < 60 else "senior"


@pytest.mark.parametrize("people", [1, 7, 60])
def test_people_fill_the_quotas(people: int) -> None:
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
def test_a_person_depends_on_nobody_else(gender: Gender, age_band: Band) -> None:
    assert sample_person(5, gender, age_band, seed=1) == sample_person(5, gender, age_band, seed=1)
    assert sample_person(5, gender, age_band, seed=1) != sample_person(5, gender, age_band, seed=2)
    assert sample_person(5, gender, age_band, seed=1) != sample_person(6, gender, age_band, seed=1)


def test_members_of_a_folder_are_sampled_one_by_one() -> None:
    for person in sample_people(20, seed=9):
        assert person == sample_person(person.number, person.gender, band(person.age), seed=9)


@pytest.mark.parametrize("cue", ["long hair", "thick brows", "shadowed chin"])
def test_cues_of_gender_overlap(cue: str) -> None:
    has = {
        "long hair": lambda person: person.hair.length > 0.3,
        "thick brows": lambda person: person.features.brow_weight > 0.5,
        "shadowed chin": lambda person: person.hair.beard != "none",
    }[cue]
    persons = sample_people(400, seed=0)
    shares = {
        gender: sum(map(has, of)) / len(of)
        for gender in ("female", "male")
        for of in [[person for person in persons if person.gender == gender]]
    }
    assert abs(shares["female"] - shares["male"]) > 0.2
    assert min(shares["male"], 1 - shares["male"]) > 0.02


def test_marks_of_age_grow_but_overlap() -> None:
    persons = sample_people(400, seed=0)
    folds = {name: [p.marks.folds for p in persons if band(p.age) == name] for name in ("young", "senior")}
    greys = {name: [p.hair.grey for p in persons if band(p.age) == name] for name in ("middle", "senior")}
    assert sum(folds["young"]) / len(folds["young"]) < 0.3 < 0.7 < sum(folds["senior"]) / len(folds["senior"])
    assert max(greys["middle"]) > min(greys["senior"])
