"""Evaluate a trained network on people that it has not seen."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.evaluation import EvaluateSettings


def main(settings: EvaluateSettings, job: Job) -> None:
    """Write scores with intervals, predictions and figures."""
    from mask_lightning.pipelines.evaluate import evaluate_run

    evaluate_run(settings, job.folder)


if __name__ == "__main__":
    run_command("evaluate", EvaluateSettings, main)
