"""List labels that are probably wrong, from the runs of a cross-validation."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.evaluation import SuspectsSettings


def main(settings: SuspectsSettings, job: Job) -> None:
    """Write the list and a page for a person to review."""
    from mask_lightning.pipelines.suspects import list_suspects

    list_suspects(settings, job.folder)


if __name__ == "__main__":
    run_command("suspects", SuspectsSettings, main)
