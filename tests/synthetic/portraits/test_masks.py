import numpy as np
import pytest

from mask_lightning.synthetic.portraits.masks import (
    MASK_KINDS,
    MISPLACEMENTS,
    MaskKind,
    Misplacement,
    fit_mask,
    sample_mask,
)
from mask_lightning.synthetic.portraits.people import Person, sample_people

NOSE_TIP, MOUTH = 0.42, 0.76


@pytest.fixture(scope="module")
def person() -> Person:
    return sample_people(1, seed=0)[0]


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_a_mask_worn_right_covers_nose_and_mouth(person: Person, kind: MaskKind) -> None:
    for seed in range(20):
        fit = fit_mask(sample_mask(kind, None, np.random.default_rng(seed)), person)
        upper, lower = fit.place([(0.0, 0.0), (0.0, 1.0)])[:, 1]
        assert upper < NOSE_TIP - 0.15
        assert lower > 1.3


@pytest.mark.parametrize(
    ("misplacement", "covers_mouth"), [("nostrils", True), ("nose", True), ("mouth", False), ("chin", False)]
)
def test_a_mask_worn_wrong_shows_the_nose(person: Person, misplacement: Misplacement, covers_mouth: bool) -> None:
    for seed in range(20):
        mask = sample_mask("cloth", misplacement, np.random.default_rng(seed))
        upper = fit_mask(mask, person).place([(0.0, 0.0)])[0, 1]
        assert upper > NOSE_TIP - 0.15
        assert (upper < MOUTH) == covers_mouth


def test_a_mask_on_one_ear_hangs_beside_the_face(person: Person) -> None:
    assert "ear" in MISPLACEMENTS
    for seed in range(20):
        fit = fit_mask(sample_mask("surgical", "ear", np.random.default_rng(seed)), person)
        assert abs(fit.place([(0.0, 0.5)])[0, 0]) > 0.7
