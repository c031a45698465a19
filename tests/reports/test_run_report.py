"""Output of a training run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.data.index import read_index
from mask_lightning.data.splits import Split, split_people
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.labels import FACE
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.reports import run_report
from mask_lightning.reports.run_report import describe_cost, describe_numbers, name_classes, plot_augmented, split_table
from mask_lightning.settings.augment import AugmentSettings, MixSettings
from mask_lightning.settings.model import SharingSettings


def test_a_missing_label_is_a_question_mark() -> None:
    target = {"mask": torch.tensor(2), "gender": torch.tensor(-1), "age": torch.tensor(0)}
    assert name_classes(FACE, target) == ["normal", "?", "<30"]


@pytest.fixture
def data(competition: Path) -> Callable[[MixSettings], FaceDataModule]:
    split = split_people(read_index(competition), val_fraction=0.25, seed=0)

    def build(mix: MixSettings) -> FaceDataModule:
        spec, augment = TransformSpec(128, 96, 32), AugmentSettings(num_ops=0)
        return FaceDataModule(split, tasks=FACE.names, spec=spec, augment=augment, num_workers=0, mix=mix)

    return build


def test_captions_of_unmixed_photos_are_their_classes(data) -> None:
    figure = plot_augmented(data(MixSettings()), FACE)
    assert len(figure.axes) == 32
    assert {axis.get_title() for axis in figure.axes} <= set(FACE.code_names)
    assert figure.get_suptitle() == "training photos, augmented"


def test_mixed_photos_are_shown_with_both_captions_and_their_shares(data) -> None:
    plain, mixed = (
        plot_augmented(data(mix), FACE) for mix in (MixSettings(), MixSettings(name="half_cutmix", probability=0.25))
    )
    assert "25% of the batches mixed" in mixed.get_suptitle()
    for first in range(0, 32, 8):  # a batch of its own
        before, after = plain.axes[first : first + 8], mixed.axes[first : first + 8]
        photos = [axis.images[0].get_array() for axis in before]
        for axis, own, photo in zip(after, before, photos, strict=True):
            mine, other = axis.get_title().split("\n")
            assert mine == f"50% {own.get_title()}"
            partners = [p for p, one in zip(photos, before, strict=True) if other == f"50% {one.get_title()}"]
            halves = [np.hstack([a[:, :16], b[:, 16:]]) for p in partners for a, b in ((photo, p), (p, photo))]
            assert any(np.array_equal(axis.images[0].get_array(), half) for half in halves)


def test_photos_that_change_on_the_device_are_shown_changed(competition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_report, "SHOWN", 6)
    split = split_people(read_index(competition), val_fraction=0.25, seed=0)
    spec, augment = TransformSpec(128, 96, 32), AugmentSettings(num_ops=0, flip=0.5)
    options = {"tasks": FACE.names, "spec": spec, "augment": augment, "num_workers": 0}
    figures = [plot_augmented(FaceDataModule(split, **options, device_augment=there), FACE) for there in (True, False)]
    shown, want = ([axis.images[0].get_array() for axis in figure.axes] for figure in figures)
    np.testing.assert_array_equal(shown, want)


def test_errors_of_a_number_are_described_per_side_and_class() -> None:
    scores = {"val/age/f1": 0.5, "val/age/mae": 8.26, "val/age/bias/<30": 3.04, "val/age/bias/>=60": -14.5}
    assert describe_numbers(scores, FACE) == [
        "val age: mean absolute error 8.3; predicted - true: <30 +3.0, >=60 -14.5"
    ]
    assert describe_numbers({"val/age/f1": 0.5}, FACE) == []


ROWS = pd.DataFrame({"person_id": ["a", "a", "b"], "family": ["a", "a", "b"], "gender": [0, 0, 1]})


@pytest.mark.parametrize(
    ("genders", "want"),
    [
        ([0, 0, 1], [["2", "3"], ["1", "2"], ["1", "1"]]),
        ([0, -1, 1], [["2", "3"], ["1", "1"], ["1", "1"], ["", "1"]]),  # the last row: not labelled
    ],
)
def test_the_split_table_counts_people_and_photos_per_class(genders: list[int], want: list[list[str]]) -> None:
    module = SimpleNamespace(space=FACE.only(["gender"]))
    table = split_table(module, Split(ROWS.assign(gender=genders), ROWS.iloc[:0]))  # type: ignore[arg-type]
    _, people, photos, *_ = (list(column.cells) for column in table.columns)
    assert [list(row) for row in zip(people, photos, strict=True)] == want


@pytest.mark.parametrize(
    ("sharing", "more"),
    [
        ("hard", None),
        ("none", "(sharing=none: 3.00 and 3.00 times those of sharing=hard)"),
        ("cross_stitch", "(sharing=cross_stitch: 3.00 and 3.00 times those of sharing=hard)"),
    ],
)
def test_the_cost_of_sharing_is_compared_with_hard_sharing(sharing: str, more: str | None) -> None:
    options = {"sharing": {"name": sharing}, "image_size": 64}
    classes = {"mask": 3, "gender": 2, "age": 3}
    network = MultiTaskNetwork("test_resnet", classes, sharing=SharingSettings(name=sharing), image_size=64)  # type: ignore[arg-type]
    hparams = {"backbone": "test_resnet", "network": options}
    cost = describe_cost(SimpleNamespace(space=FACE, network=network, hparams=hparams), 64)  # type: ignore[arg-type]
    count = sum(parameter.numel() for parameter in network.parameters())
    assert cost.startswith(f"{count / 1e6:.2f} M parameters, ")
    assert cost.endswith(more or "GFLOPs per photo")
