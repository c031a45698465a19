"""Submissions: made, voted on, written, read, checked and compared."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mask_lightning.errors import SubmissionError
from mask_lightning.inference.prediction_file import write_predictions
from mask_lightning.inference.submission import (
    Submission,
    class_shares,
    disagreement,
    find_problems,
    majority_codes,
    read_answers,
    submission_of,
    total_variation,
    vote_submissions,
    write_submission,
)
from mask_lightning.labels import FACE, LabelSpace, Task


def submission(**answers: int) -> Submission:
    return Submission(tuple(answers), np.array(list(answers.values()), np.int64))


def rows(text: str) -> pd.DataFrame:
    lines = [line.split(",") for line in text.split()]
    return pd.DataFrame(lines[1:], columns=lines[0]).replace("", None)


def test_answers_are_the_combined_classes_in_the_order_of_the_photos(make_predictions, tmp_path: Path) -> None:
    predictions = make_predictions(("z.jpg", "a, b.jpg", "m.jpg"))
    write_submission(tmp_path / "submission.csv", submission_of(predictions))
    best = {task: probs.argmax(1) for task, probs in predictions.probs.items()}
    codes = best["mask"] * 6 + best["gender"] * 3 + best["age"]
    assert (tmp_path / "submission.csv").read_bytes() == (
        f'ImageID,ans\nz.jpg,{codes[0]}\n"a, b.jpg",{codes[1]}\nm.jpg,{codes[2]}\n'.encode()
    )
    for path in (tmp_path, tmp_path / "submission.csv"):
        back = read_answers(path)
        assert back.image_ids == ("z.jpg", "a, b.jpg", "m.jpg")
        np.testing.assert_array_equal(back.codes, codes)


def test_answers_can_be_read_from_predictions(make_predictions, tmp_path: Path) -> None:
    predictions = make_predictions()
    write_predictions(tmp_path / "p.parquet", predictions)
    np.testing.assert_array_equal(read_answers(tmp_path / "p.parquet").codes, predictions.codes)


def test_the_order_of_the_tasks_and_further_tasks_do_not_matter(make_predictions) -> None:
    tasks = (Task("hat", ("no", "yes")), *reversed(FACE.tasks))
    predictions = make_predictions(space=LabelSpace(tasks))
    best = {task: probs.argmax(1) for task, probs in predictions.probs.items()}
    expected = best["mask"] * 6 + best["gender"] * 3 + best["age"]
    np.testing.assert_array_equal(submission_of(predictions).codes, expected)


@pytest.mark.parametrize(
    "space",
    [
        FACE.only(["mask"]),
        FACE.only(["mask", "age"]),
        LabelSpace((Task("mask", ("on", "off", "chin")), *FACE.tasks[1:])),
        LabelSpace((Task("mask", ("normal", "incorrect", "wear")), *FACE.tasks[1:])),
    ],
)
def test_other_label_spaces_are_refused(make_predictions, space: LabelSpace) -> None:
    with pytest.raises(SubmissionError, match=r"takes the 18 classes of mask .*, found mask"):
        submission_of(make_predictions(space=space))


@pytest.mark.parametrize("answers", [submission(a=18), submission(a=-1)])
def test_invalid_codes_are_not_written(tmp_path: Path, answers: Submission) -> None:
    with pytest.raises(SubmissionError, match="not a class from 0 to 17"):
        write_submission(tmp_path / "s.csv", answers)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ImageID,ans a,0 b,17", []),
        ("ImageID,ans a,0 b,18", ["1 answers are not a class from 0 to 17 (18)"]),
        ("ImageID,ans a,-1 b,1.0 c,x d,", ["4 answers are not a class from 0 to 17 (-1, 1.0, x, ...)"]),
        ("ImageID,ans a,1 b,2 a,1", ["1 ImageIDs stand twice (a)"]),
        ("ImageID,ans a,1 ,2", ["1 lines have no ImageID (3)"]),
        ("ans,ImageID 1,a", ["expected the columns ImageID,ans, found ans,ImageID"]),
        ("ImageID,ans,x a,1,2", ["expected the columns ImageID,ans, found ImageID,ans,x"]),
        ("ImageID,ans a,1 a,99", ["1 ImageIDs stand twice (a)", "1 answers are not a class from 0 to 17 (99)"]),
    ],
)
def test_problems_of_a_submission_alone(text: str, wanted: list[str]) -> None:
    assert find_problems(rows(text)) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ImageID,ans a,0 b,1 c,2", []),
        ("ImageID,ans a,0 c,2 b,1", ["the order is not that of info.csv, from line 3 on"]),
        ("ImageID,ans a,0 b,1", ["1 of 3 photos have no answer (c)"]),
        ("ImageID,ans a,0 b,1 c,2 d,3", ["1 answers are for photos that are not asked for (d)"]),
        (
            "ImageID,ans a,0 b,1 x,2",
            ["1 of 3 photos have no answer (c)", "1 answers are for photos that are not asked for (x)"],
        ),
        (
            "ImageID,ans a,0 b,1 c,2 c,2",
            ["1 ImageIDs stand twice (c)", "the order is not that of info.csv, from line 5 on"],
        ),
    ],
)
def test_problems_against_the_official_list(text: str, wanted: list[str]) -> None:
    assert find_problems(rows(text), ["a", "b", "c"]) == wanted


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ImageID,ans\na,99\n", "not a class from 0 to 17"),
        (b"", "cannot read"),
        (b"\xff\xfe\x00", "cannot read"),
        (None, "expected a submission at .*, found none"),
    ],
)
def test_files_that_are_no_submission_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "s.csv").write_bytes(content)
    with pytest.raises(SubmissionError, match=message):
        read_answers(tmp_path / "s.csv")


def test_in_order() -> None:
    answers = submission(a=1, b=2, c=3)
    assert answers.in_order(["c", "a", "b"]).codes.tolist() == [3, 1, 2]
    for names in (["a", "b"], ["a", "b", "x"], ["a", "b", "c", "d"]):
        with pytest.raises(SubmissionError, match="expected answers for the same"):
            answers.in_order(names)


def test_shares_and_distances() -> None:
    shares = class_shares(np.array([0, 0, 17, 5]))
    assert {code: share for code, share in enumerate(shares) if share} == {0: 0.5, 5: 0.25, 17: 0.25}
    assert total_variation(shares, class_shares(np.array([0, 0, 17, 17]))) == 0.25
    assert total_variation(shares, shares) == 0


def test_disagreement_by_task() -> None:
    ours, theirs = np.array([0, 0, 0, 0, 17]), np.array([0, 1, 3, 6, 0])
    want = {
        "joint": [False, True, True, True, True],
        "mask": [False, False, False, True, True],
        "gender": [False, False, True, False, True],
        "age": [False, True, False, False, True],
    }
    assert {name: differs.tolist() for name, differs in disagreement(ours, theirs).items()} == want


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ([3], 3),
        ([3, 3, 1], 3),
        ([17, 0, 17], 17),
        ([5, 2], 2),  # of equals the lowest
        ([9, 4, 9, 4, 12], 4),
        ([7, 6, 5], 5),
    ],
)
def test_majority(votes: list[int], winner: int) -> None:
    assert majority_codes(np.array(votes)[:, None], 18).tolist() == [winner]


def test_majority_of_many() -> None:
    votes = np.random.default_rng(0).integers(0, 18, (9, 200))
    counts = [Counter(column.tolist()) for column in votes.T]
    expected = [min(count, key=lambda code: (-count[code], code)) for count in counts]
    np.testing.assert_array_equal(majority_codes(votes, 18), expected)


def test_votes_are_matched_by_photo() -> None:
    first = Submission(("a", "b"), np.array([1, 2]))
    others = [Submission(("b", "a"), np.array([5, 4]))] * 2
    assert vote_submissions([first, *others]).image_ids == ("a", "b")
    assert vote_submissions([first, *others]).codes.tolist() == [4, 5]
    with pytest.raises(SubmissionError, match="expected answers for the same 2 photos, found 1"):
        vote_submissions([first, Submission(("a",), np.array([1]))])
