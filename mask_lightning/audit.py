"""Check labelled photos before training: broken files, labels, duplicates, missing photos."""

from __future__ import annotations

from mask_lightning.cli.command import ExitCode, Job, run_command
from mask_lightning.settings.evaluation import AuditSettings

TRAINING_WOULD_FAIL = ExitCode(1)


def main(settings: AuditSettings, job: Job) -> ExitCode:
    """Write the audit. Return exit code 0 if training can start on these photos, 1 if it would fail."""
    from mask_lightning.pipelines.audit import audit_run

    audit = audit_run(settings, job.folder)
    return TRAINING_WOULD_FAIL if audit.stops_training else ExitCode(0)


if __name__ == "__main__":
    run_command("audit", AuditSettings, main)
