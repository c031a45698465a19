"""Describe the installation: versions, devices, memory, disk, caches, weights and missing extras."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.evaluation import DoctorSettings


def main(settings: DoctorSettings, _: Job) -> None:
    """Print the description, for a bug report."""
    from mask_lightning.pipelines.doctor import describe_installation

    print(describe_installation(settings))


if __name__ == "__main__":
    run_command("doctor", DoctorSettings, main)
