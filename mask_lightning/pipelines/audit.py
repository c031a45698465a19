"""Audit labelled photos before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mask_lightning.data.auditing.audit import Audit, audit_table, check_classes_present
from mask_lightning.data.auditing.findings import Finding, survey
from mask_lightning.data.duplicates import describe_sharing, find_shared_photos
from mask_lightning.data.sources import READERS, LabelledPhotos
from mask_lightning.data.splits import check_classes, hold_out
from mask_lightning.errors import SplitError
from mask_lightning.labels import LabelSpace
from mask_lightning.pipelines.photos import link_people, read_labelled
from mask_lightning.reports import audit_report
from mask_lightning.settings.evaluation import AuditSettings


def audit_run(settings: AuditSettings, folder: Path) -> Audit:
    """Audit the photos, print what was found, and write audit.json and figures into `folder`.

    Raises:
        MaskLightningError: the photos cannot be listed at all, or the corrections cannot be read.
    """
    data = settings.data
    photos, findings = _read(settings)
    photos, leakage = _link_people(photos, settings)
    findings += leakage
    tasks = settings.task.choose(photos.space)
    audit = audit_table(
        photos.table,
        space=photos.space,
        strata=photos.strata,
        tasks=tasks,
        findings=[*findings, *_try_split(photos, tasks, settings)],
        crop=(data.crop_height, data.crop_width) if data.crop_height and data.crop_width else None,
        max_bits=settings.near_bits,
        workers=settings.workers,
    )
    audit_report.save(folder, audit, root=photos.root, people=settings.people_shown)
    audit_report.print_audit(folder, audit, root=photos.root, drawn=data.is_drawn)
    return audit


def _read(settings: AuditSettings) -> tuple[LabelledPhotos, list[Finding]]:
    """Read the sample table as for training; for the competition's layout, also return what does not parse."""
    findings: list[Finding] = []

    def read_tolerantly(root: Path) -> pd.DataFrame:
        table, found = survey(root)
        findings.extend(found)
        return table

    space = settings.known_space
    needed = settings.task.needed(space)
    readers = {**READERS, "auto": read_tolerantly, "competition": read_tolerantly}
    return read_labelled(settings.data, space, needed=needed, outputs=settings.outputs, readers=readers), findings


def _link_people(photos: LabelledPhotos, settings: AuditSettings) -> tuple[LabelledPhotos, list[Finding]]:
    """Join people who share photos, as training does before it splits, and report them as leakage."""
    data = settings.data
    folder = data.cache_below(settings.outputs)
    pairs = find_shared_photos(photos.table, root=photos.root, folder=folder)
    if not len(pairs):
        return photos, []
    shared = photos.table.iloc[np.unique(pairs)]
    text = describe_sharing(photos.table, pairs, people_known=photos.people_known)
    finding = Finding("leakage", text, tuple(shared["path"]))
    return link_people(photos, pairs), [finding]


def _try_split(photos: LabelledPhotos, tasks: LabelSpace, settings: AuditSettings) -> list[Finding]:
    """Split as a training run with these options would; return why it would fail. Skip this if a class is missing."""
    data = settings.data
    if check_classes_present(photos.table, tasks):
        return []
    try:
        split = hold_out(
            photos.table, **data.split_options, strata=photos.strata, labels=photos.labels_as_read, space=tasks
        )
        check_classes(split, tasks, table=photos.table)
    except SplitError as error:
        return [Finding("split", str(error))]
    return []
