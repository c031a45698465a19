"""One audit from settings to what it leaves in its folder."""

from __future__ import annotations

from pathlib import Path

from mask_lightning.data.auditing.audit import Audit, audit_table
from mask_lightning.data.auditing.checks import check_classes_present
from mask_lightning.data.auditing.findings import Finding
from mask_lightning.data.auditing.survey import survey
from mask_lightning.data.sources import LabelledPhotos, corrected, read_photo_table, read_photos
from mask_lightning.data.splits import check_classes, hold_out
from mask_lightning.errors import SplitError
from mask_lightning.labels import FACE_SETS, PERSON_TASKS, LabelSpace
from mask_lightning.reports import audit_report
from mask_lightning.settings.evaluation import AuditSettings


def audit_run(settings: AuditSettings, folder: Path) -> Audit:
    """Audit the photos that `settings` name, show what was found, and leave audit.json and pictures in `folder`.

    Raises:
        MaskLightningError: the photos cannot be indexed at all, or the corrections cannot be read.
    """
    data = settings.data
    photos, findings = _read(settings)
    photos = corrected(photos, data.corrections, agreed_by=data.agreed_by)
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
    audit_report.print_audit(folder, audit, root=photos.root, drawn=_is_drawn(settings))
    return audit


def _is_drawn(settings: AuditSettings) -> bool:
    return settings.data.name == "auto" and settings.data.root is None


def _read(settings: AuditSettings) -> tuple[LabelledPhotos, list[Finding]]:
    """The sample table as a training reads it; of the competition's layout also what does not parse."""
    data, space = settings.data, settings.known_space
    if data.table is not None:
        needed = settings.task.tasks or (space.names if space else ())
        return read_photo_table(data.table, data.root, space=space, needed=needed), []
    root = data.root or _drawn_portraits(settings)
    if data.name in ("auto", "competition"):
        table, findings = survey(root)
        return LabelledPhotos(table, FACE_SETS[data.name], PERSON_TASKS, root), findings
    return read_photos(data.name, root), []


def _drawn_portraits(settings: AuditSettings) -> Path:
    from mask_lightning.pipelines.prepare import draw_portraits

    return draw_portraits(settings.data.portraits, settings.outputs)


def _try_split(photos: LabelledPhotos, tasks: LabelSpace, settings: AuditSettings) -> list[Finding]:
    """Split as a training with these options would, where every class is there at all."""
    data = settings.data
    if check_classes_present(photos.table, tasks):
        return []
    try:
        split = hold_out(photos.table, **data.split_options, strata=photos.strata)
        check_classes(split, tasks)
    except SplitError as error:
        return [Finding("split", str(error))]
    return []
