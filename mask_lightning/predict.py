"""Predict mask, gender and age of the faces in photos with trained networks."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.inference import PredictSettings


def main(settings: PredictSettings, job: Job) -> None:
    """Write predictions, and a submission if the networks predict all tasks."""
    from mask_lightning.pipelines.predict import predict_photos

    predict_photos(settings, job.folder)


if __name__ == "__main__":
    run_command("predict", PredictSettings, main)
