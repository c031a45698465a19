"""Keys of a run's scores, such as `val/age/f1`: side of the split, task, metric."""

from __future__ import annotations

from collections.abc import Iterable

from mask_lightning.metrics.scores import METRICS

LOSS = "loss"


def score_keys(sides: Iterable[str], tasks: Iterable[str]) -> list[str]:
    """List the keys of all scores of some sides: of all tasks together, then of each task.

    Example:
        >>> score_keys(["val"], ["age"])[:4]
        ['val/f1', 'val/accuracy', 'val/loss', 'val/age/f1']
    """
    prefixes = ("", *(f"{task}/" for task in tasks))
    return [f"{side}/{prefix}{name}" for side in sides for prefix in prefixes for name in (*METRICS, LOSS)]


def lower_is_better(key: str) -> bool:
    """Return True for the key of a loss or an error.

    Example:
        >>> lower_is_better("val/age/loss"), lower_is_better("val/f1")
        (True, False)
    """
    name = key.rsplit("/", 1)[-1]
    return not METRICS[name].higher_is_better if name in METRICS else key.endswith(f"/{LOSS}")
