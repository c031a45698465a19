"""Keys of scores, and the direction in which they improve."""

import pytest

from mask_lightning.metrics.names import lower_is_better, score_keys


@pytest.mark.parametrize(
    ("key", "lower"),
    [("val/loss", True), ("val/age/loss", True), ("val/f1", False), ("clean_train/mask/accuracy", False)],
)
def test_lower_is_better_for_losses(key: str, lower: bool) -> None:
    assert lower_is_better(key) is lower


def test_score_keys() -> None:
    assert score_keys(["val"], ["age"]) == [
        "val/f1",
        "val/accuracy",
        "val/loss",
        "val/age/f1",
        "val/age/accuracy",
        "val/age/loss",
    ]
