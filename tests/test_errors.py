from pathlib import Path

import pytest

from mask_lightning.errors import DatasetNotFoundError, did_you_mean


@pytest.mark.parametrize(
    ("word", "known", "most", "want"),
    [
        ("ages", ["mask", "age", "gender"], 3, "did you mean age?"),
        ("lite", ["lite2", "lite0", "effb2"], 3, "did you mean lite2 or lite0?"),
        ("lite", ["lite0", "effb2"], 1, "did you mean lite0?"),
        ("lite0", ["tf_efficientnet_lite0", "resnet34"], 3, "did you mean tf_efficientnet_lite0?"),
        ("xyz", ["mask", "age"], 3, "choose from age, mask"),
        ("", ["mask", "age"], 3, "choose from age, mask"),
        ("xyz", [f"w{i:02d}" for i in range(21)], 3, f"choose from {', '.join(f'w{i:02d}' for i in range(20))}, ..."),
    ],
)
def test_near_words_are_suggested_else_all(word: str, known: list[str], most: int, want: str) -> None:
    assert did_you_mean(word, known, most=most) == want


def test_a_missing_dataset_says_what_was_expected_found_and_what_to_do() -> None:
    message = str(DatasetNotFoundError(Path("photos"), "holiday"))
    for part in ("train/images/<id>_<gender>_<race>_<age>/", "below photos", "found holiday", "set data.root"):
        assert part in message
    assert "\n" not in message
