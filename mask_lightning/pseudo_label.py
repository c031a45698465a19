"""Write soft labels of photos without labels, for further training."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.inference import PseudoLabelSettings


def main(settings: PseudoLabelSettings, job: Job) -> None:
    """Write pseudo_labels.parquet and pseudo_labels.csv."""
    from mask_lightning.pipelines.pseudo_label import write_pseudo_labels

    write_pseudo_labels(settings, job.folder)


if __name__ == "__main__":
    run_command("pseudo_label", PseudoLabelSettings, main)
