from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mask_lightning.errors import LabelError
from mask_lightning.labels import AGE, FACE, MASK, LabelSpace, Task, age_band

# The competition's own table of classes, in its order.
OFFICIAL = list(product(("wear", "incorrect", "normal"), ("male", "female"), ("<30", "30-59", ">=60")))


def space_of(sizes: list[int]) -> LabelSpace:
    return LabelSpace(tuple(Task(f"task{i}", tuple(f"class{j}" for j in range(size))) for i, size in enumerate(sizes)))


@pytest.mark.parametrize(("code", "names"), list(enumerate(OFFICIAL)))
def test_codes_follow_the_competition(code: int, names: tuple[str, str, str]) -> None:
    targets = {task.name: task.target(name) for task, name in zip(FACE.tasks, names, strict=True)}
    assert FACE.encode(targets) == code
    assert FACE.encode(targets) == targets["mask"] * 6 + targets["gender"] * 3 + targets["age"]
    assert FACE.decode(code) == targets
    assert FACE.code_names[code] == " ".join(names)


def test_a_face_has_18_codes() -> None:
    assert FACE.num_codes == len(FACE.code_names) == 18


@given(st.lists(st.integers(2, 5), min_size=1, max_size=5), st.data())
def test_encode_and_decode_are_numpys_mixed_radix(sizes: list[int], data: st.DataObject) -> None:
    space = space_of(sizes)
    code = data.draw(st.integers(0, int(np.prod(sizes)) - 1))
    want = [int(digit) for digit in np.unravel_index(code, sizes)]
    decoded = space.decode(code)
    assert list(decoded.values()) == want
    assert tuple(decoded) == space.names
    assert space.encode(decoded) == code


@pytest.mark.parametrize("codes", [np.arange(18).reshape(3, 6), torch.arange(18).reshape(3, 6)])
def test_arrays_and_tensors_keep_kind_and_shape(codes: Any) -> None:
    decoded = FACE.decode(codes)
    want = np.stack(np.unravel_index(np.arange(18), (3, 2, 3))).reshape(3, 3, 6)
    for values, digits in zip(decoded.values(), want, strict=True):
        assert type(values) is type(codes)
        np.testing.assert_array_equal(np.asarray(values), digits)
    encoded = FACE.encode(decoded)
    assert type(encoded) is type(codes)
    assert encoded.dtype == codes.dtype
    assert (encoded == codes).all()


def test_encode_ignores_targets_of_other_tasks() -> None:
    assert FACE.only(["age"]).encode({"mask": 2, "gender": 1, "age": 1}) == 1


@pytest.mark.parametrize(
    ("years", "band"),
    [(0, "<30"), (18, "<30"), (29, "<30"), (30, "30-59"), (59, "30-59"), (60, ">=60"), (120, ">=60")],
)
def test_age_bands_begin_at_30_and_60(years: int, band: str) -> None:
    assert AGE.classes[int(age_band(years))] == band


def test_age_band_keeps_the_shape() -> None:
    np.testing.assert_array_equal(age_band([[29, 30], [59, 60]]), [[0, 1], [1, 2]])


def test_only_keeps_the_order_of_the_space() -> None:
    assert FACE.only(["age", "mask"]).names == ("mask", "age")
    assert FACE.only(["age", "mask"]).num_codes == 9


@pytest.mark.parametrize("sizes", [[2], [3, 2, 3]])
def test_plain_values_rebuild_the_space(sizes: list[int]) -> None:
    space = space_of(sizes)
    plain = space.to_plain()
    assert plain["task0"] == [f"class{i}" for i in range(sizes[0])]
    assert LabelSpace.from_plain(plain) == space


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: MASK.target("normall"), "mask has no class 'normall'; did you mean normal"),
        (lambda: FACE["ages"], "no task 'ages'; did you mean age"),
        (lambda: FACE.only(["hat"]), "no task 'hat'; choose from age, gender, mask"),
        (lambda: FACE.only([]), "one or more different tasks"),
        (lambda: Task("mask", ("worn",)), "two or more different classes, got worn"),
        (lambda: Task("mask", ("worn", "worn")), "name each class once"),
        (lambda: LabelSpace(()), "one or more different tasks"),
        (lambda: LabelSpace((MASK, MASK)), r"got \['mask', 'mask'\]"),
    ],
)
def test_wrong_names_are_told(wrong: Any, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        wrong()
