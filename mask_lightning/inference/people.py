"""Average the predictions of a video over the frames of each track."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.labels import LabelSpace
from mask_lightning.metrics.predictions import Predictions

FILE_NAME = "people.csv"


@dataclass
class _Person:
    frames: list[int]
    times: list[float]
    heights: list[float] = field(default_factory=list)
    sums: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)


class PeopleTally:
    """Sums of the probabilities of each track, over parts of the predictions.

    Args:
        space: the tasks.
    """

    def __init__(self, space: LabelSpace) -> None:
        self.space = space
        self._people: dict[int, _Person] = {}

    def __len__(self) -> int:
        return len(self._people)

    def add(self, predictions: Predictions) -> None:
        """Add the faces of the next frames, with the columns of `inference.predict_faces` for a video."""
        rows = predictions.photos
        heights = rows["bottom"] - rows["top"]
        for i, (track, frame, time) in enumerate(zip(rows["track"], rows["frame"], rows["time"], strict=True)):
            person = self._people.setdefault(int(track), _Person([], []))
            person.frames.append(int(frame))
            person.times.append(float(time))
            person.heights.append(float(heights.iloc[i]))
            for task in self.space.names:
                person.sums[task] = person.sums.get(task, 0.0) + predictions.probs[task][i].astype(np.float64)

    def table(self) -> pd.DataFrame:
        """Return one row per track.

        Columns: `track`; number of `frames` with the face; `first_frame`, `last_frame`, `first_time`, `last_time`;
        `face_height`, the median in pixels; for each task the most probable class of the mean probabilities and its
        probability; then all mean probabilities as `probs/<task>/<class>`.
        """
        rows = []
        for track, person in sorted(self._people.items()):
            row: dict[str, object] = {
                "track": track,
                "frames": len(person.frames),
                "first_frame": min(person.frames),
                "last_frame": max(person.frames),
                "first_time": min(person.times),
                "last_time": max(person.times),
                "face_height": round(float(np.median(person.heights)), 1),
            }
            means = {task: total / len(person.frames) for task, total in person.sums.items()}
            for task in self.space.tasks:
                pred = int(means[task.name].argmax())
                row |= {
                    task.name: task.classes[pred],
                    f"{task.name}_probability": round(float(means[task.name][pred]), 4),
                }
            for task in self.space.tasks:
                row |= {
                    f"probs/{task.name}/{name}": round(float(value), 4)
                    for name, value in zip(task.classes, means[task.name], strict=True)
                }
            rows.append(row)
        return pd.DataFrame(rows, columns=self._columns())

    def _columns(self) -> list[str]:
        place = ["track", "frames", "first_frame", "last_frame", "first_time", "last_time", "face_height"]
        labels = [name for task in self.space.names for name in (task, f"{task}_probability")]
        return [*place, *labels, *(f"probs/{task.name}/{name}" for task in self.space.tasks for name in task.classes)]
