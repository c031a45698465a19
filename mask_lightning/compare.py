"""Compare runs in a table, the best first."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.evaluation import CompareSettings


def main(settings: CompareSettings, _: Job) -> None:
    """Print the table, and write it as CSV on request."""
    from mask_lightning.pipelines.compare import compare_runs

    compare_runs(settings)


if __name__ == "__main__":
    run_command("compare", CompareSettings, main)
