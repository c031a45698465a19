"""Merge the shards of a prediction into one."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.inference import MergeSettings


def main(settings: MergeSettings, job: Job) -> None:
    """Write the merged predictions and submission."""
    from mask_lightning.pipelines.predict import merge_shards

    merge_shards(settings, job.folder)


if __name__ == "__main__":
    run_command("merge", MergeSettings, main)
