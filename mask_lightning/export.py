"""Export a trained run as a standalone model for ONNX, OpenVINO, torch.export or safetensors."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.export import ExportSettings


def main(settings: ExportSettings, job: Job) -> None:
    """Write a folder with the model, its description and an example, and compare it with PyTorch."""
    from mask_lightning.pipelines.export import export_model

    export_model(settings, job.folder)


if __name__ == "__main__":
    run_command("export", ExportSettings, main)
