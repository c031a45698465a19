"""Find the learning rate of a run with a learning rate range test."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.train import TrainSettings
from mask_lightning.train import ranks
from mask_lightning.utils.launch import find_launch


def main(settings: TrainSettings, job: Job) -> None:
    """Write the curve and the suggested learning rates."""
    from mask_lightning.pipelines.find_lr import find_lr

    find_lr(settings.on(find_launch()), job.folder, job.overrides)


if __name__ == "__main__":
    run_command("find_lr", TrainSettings, main, ranks=ranks)
