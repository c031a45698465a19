"""Write an HTML page about a trained network: scores, and its mistakes as photos."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.evaluation import ReportSettings


def main(settings: ReportSettings, job: Job) -> None:
    """Write report.html and its figures."""
    from mask_lightning.pipelines.report import report_run

    report_run(settings, job.folder)


if __name__ == "__main__":
    run_command("report", ReportSettings, main)
