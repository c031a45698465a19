"""Settings -> what the training photos are taught of ages, and the head that learns it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from mask_lightning.data.ages import (
    Floats,
    check_taught,
    check_years,
    class_borders,
    count_years,
    known_years,
    with_cuts,
    without_ages,
)
from mask_lightning.data.datamodule import NumbersOf
from mask_lightning.labels import AGE
from mask_lightning.settings.train import TrainSettings


def learned_rows(settings: TrainSettings, train: pd.DataFrame) -> pd.DataFrame:
    """The training rows without the people whom `labels.age.leave_out` leaves out.

    Raises:
        SampleTableError: an option needs ages in years, and none are known.
        SplitError: nobody of an age band is left.
    """
    ages = settings.labels.age
    needing = {f"head={settings.head.name}": settings.head.predicts_number, "labels.age.train_cuts": ages.train_cuts}
    for option in (option for option, needs in needing.items() if needs):
        check_years(train, needed_by=option)
    if not ages.leave_out:
        return train
    check_years(train, needed_by="labels.age.leave_out")
    rows = without_ages(train, ages.leave_out)
    check_taught(rows, option=f"labels.age.leave_out={[list(ends) for ends in ages.leave_out]}")
    return rows


def taught_rows(settings: TrainSettings, learned: pd.DataFrame) -> pd.DataFrame:
    """The learned rows with the targets that they are taught: those of `labels.age.train_cuts`, where it is set.

    Raises:
        SplitError: nobody is left of an age band.
    """
    cuts = settings.labels.age.train_cuts
    if cuts is None:
        return learned
    rows = with_cuts(learned, cuts)
    check_taught(rows, option=f"labels.age.train_cuts={cuts}")
    return rows


def numbers_of(settings: TrainSettings) -> NumbersOf | None:
    """How a sample's numbers are read from the sample table; None where the head needs none."""
    if not settings.head.predicts_number:
        return None
    return partial(_read_numbers, bin_width=settings.labels.age.bin_width)


def _read_numbers(rows: pd.DataFrame, *, bin_width: int | None) -> dict[str, Floats]:
    return {AGE.name: known_years(rows, bin_width=bin_width)}


def head_options(settings: TrainSettings, learned: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Task -> `name` and options of `models.heads.make_head`, for the tasks that do not predict classes.

    Raises:
        SplitError: no age is known on one side of a cut.
    """
    head = settings.head
    if head.name == "classes":
        return {}
    if head.name == "ordinal":
        return {AGE.name: {"name": head.method}}
    options: dict[str, Any] = {"name": head.name, "top": float(head.top)}
    if head.name == "regression":
        years = known_years(learned, bin_width=settings.labels.age.bin_width)
        options["borders"] = class_borders(years, top=head.top)
    return {AGE.name: options}


def number_options(settings: TrainSettings, learned: pd.DataFrame, weights: Floats | None) -> dict[str, dict[str, Any]]:
    """Task -> options of `losses.tasks.make_loss` for its number; `weights` are how often each row is drawn (N,)."""
    head = settings.head
    if not head.predicts_number:
        return {}
    years = known_years(learned, bin_width=settings.labels.age.bin_width)
    options: dict[str, Any] = {
        "counts": count_years(years, top=head.top, weights=weights),
        "weights": head.sample_weights,
        "smoothing": head.smoothing,
    }
    if head.name == "classes_and_regression":
        options["share"] = head.number_share
    return {AGE.name: options}
