"""Check a submission, and compare it with another."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.inference import CheckSubmissionSettings


def main(settings: CheckSubmissionSettings, _: Job) -> None:
    """Print the class distribution; an invalid submission is an error."""
    from mask_lightning.pipelines.submissions import check_submission

    check_submission(settings)


if __name__ == "__main__":
    run_command("check_submission", CheckSubmissionSettings, main)
