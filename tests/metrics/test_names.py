"""Which scores there are, and which way is up."""

import pytest

from mask_lightning.metrics.names import lower_is_better, score_keys


@pytest.mark.parametrize(
    ("key", "lower"),
    [("val/loss", True), ("val/age/loss", True), ("val/f1", False), ("clean_train/mask/accuracy", False)],
)
def test_of_losses_the_smaller_is_the_better(key: str, lower: bool) -> None:
    assert lower_is_better(key) is lower


def test_every_side_has_the_scores_of_all_tasks_and_of_each() -> None:
    assert score_keys(["val"], ["age"]) == [
        "val/f1",
        "val/accuracy",
        "val/loss",
        "val/age/f1",
        "val/age/accuracy",
        "val/age/loss",
    ]
