"""Age targets of a run: which ages train, by which cuts, and what a head that predicts years needs to know."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from mask_lightning.data.ages import (
    Floats,
    apply_age_cuts,
    check_age_bands,
    check_years,
    class_borders,
    count_years,
    known_years,
    leave_out_ages,
)
from mask_lightning.data.datamodule import NumbersOf
from mask_lightning.labels import AGE
from mask_lightning.settings.data import AgeSettings
from mask_lightning.settings.model import HeadSettings


def keep_training_ages(train: pd.DataFrame, ages: AgeSettings, head: HeadSettings) -> pd.DataFrame:
    """Return the training rows without the ages of `labels.age.leave_out`.

    Raises:
        SampleTableError: an option needs ages in years, and none are known.
        SplitError: nobody is left in an age band.
    """
    if head.predicts_number:
        check_years(train, needed_by=f"head={head.name}")
    if ages.train_cuts:
        check_years(train, needed_by="labels.age.train_cuts")
    if not ages.leave_out:
        return train
    check_years(train, needed_by="labels.age.leave_out")
    rows = leave_out_ages(train, ages.leave_out)
    check_age_bands(rows, option=f"labels.age.leave_out={[list(ends) for ends in ages.leave_out]}")
    return rows


def set_age_targets(rows: pd.DataFrame, ages: AgeSettings) -> pd.DataFrame:
    """Return the rows with the age targets of `labels.age.train_cuts`, or unchanged if it is not set.

    Raises:
        SplitError: nobody is left in an age band.
    """
    if ages.train_cuts is None:
        return rows
    rows = apply_age_cuts(rows, ages.train_cuts)
    check_age_bands(rows, option=f"labels.age.train_cuts={ages.train_cuts}")
    return rows


def number_reader(head: HeadSettings, ages: AgeSettings) -> NumbersOf | None:
    """Return the function that reads the numbers of samples from rows; None if the head predicts classes only."""
    return partial(_read_years, bin_width=ages.bin_width) if head.predicts_number else None


def _read_years(rows: pd.DataFrame, *, bin_width: int | None) -> dict[str, Floats]:
    return {AGE.name: known_years(rows, bin_width=bin_width)}


def head_options(head: HeadSettings, ages: AgeSettings, train: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return `name` and options of `models.heads.make_head` for each task that does not predict classes.

    Raises:
        SplitError: no age is known on one side of a cut.
    """
    if head.name == "classes":
        return {}
    options: dict[str, Any] = {"name": head.method if head.name == "ordinal" else head.name}
    if head.predicts_number:
        options["top"] = float(head.top)
    if head.name == "regression":
        options["borders"] = class_borders(known_years(train, bin_width=ages.bin_width), top=head.top)
    return {AGE.name: options}


def number_loss_options(
    head: HeadSettings, ages: AgeSettings, train: pd.DataFrame, weights: Floats | None
) -> dict[str, dict[str, Any]]:
    """Return the options of the loss of each task that predicts a number.

    Args:
        head: options of the head of the task age.
        ages: options of the age targets.
        train: training rows with the labels as read.
        weights: how often each row is drawn (N,); None for once per epoch.
    """
    if not head.predicts_number:
        return {}
    years = known_years(train, bin_width=ages.bin_width)
    options: dict[str, Any] = {
        "counts": count_years(years, top=head.top, weights=weights),
        "weights": head.sample_weights,
        "smoothing": head.smoothing,
    }
    if head.name == "classes_and_regression":
        options["share"] = head.number_share
    return {AGE.name: options}
