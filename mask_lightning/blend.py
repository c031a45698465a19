"""Blend several submissions or prediction files into one."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.inference import BlendSettings


def main(settings: BlendSettings, job: Job) -> None:
    """Write the blended submission."""
    from mask_lightning.pipelines.submissions import blend

    blend(settings, job.folder)


if __name__ == "__main__":
    run_command("blend", BlendSettings, main)
