"""Predict mask, gender and age of the faces in photos with trained networks."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.errors import ConfigError
from mask_lightning.settings.inference import PredictSettings


def main(settings: PredictSettings, job: Job) -> None:
    """Write predictions, and a submission if the networks predict all tasks; or one shard of them."""
    if settings.shards is not None and not job.is_multirun:
        raise ConfigError(f"shards={settings.shards} runs several jobs, found a single run; add -m")
    if settings.shard is not None and settings.shards is None and job.is_multirun:
        raise ConfigError(f"shard={settings.shard} is one run, found a multirun; set shards=n in its place")
    from mask_lightning.pipelines.predict import predict_photos

    predict_photos(settings, job.folder)


if __name__ == "__main__":
    run_command("predict", PredictSettings, main)
