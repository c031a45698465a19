"""Publish a trained run as a model on the Hugging Face hub."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.export import PushSettings


def main(settings: PushSettings, job: Job) -> None:
    """Write the model's folder, compare it with PyTorch, and upload it."""
    from mask_lightning.pipelines.push import push_model

    push_model(settings, job.folder)


if __name__ == "__main__":
    run_command("push", PushSettings, main)
