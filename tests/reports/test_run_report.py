"""What a run shows of photos that are not labelled for every task."""

from __future__ import annotations

import torch

from mask_lightning.labels import FACE
from mask_lightning.reports.run_report import name_classes


def test_a_caption_does_not_name_what_nobody_stated() -> None:
    target = {"mask": torch.tensor(2), "gender": torch.tensor(-1), "age": torch.tensor(0)}
    assert name_classes(FACE, target) == ["normal", "?", "<30"]
