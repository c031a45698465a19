"""`python -m mask_lightning.report`: a trained run in, a page with its mistakes as pictures out."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mask_lightning.cli.command import open_door, plain, shorten


def main(config: DictConfig) -> None:
    """One job: the composed config -> a folder with report.html and its pictures."""
    from mask_lightning.settings.base import check
    from mask_lightning.settings.evaluation import ReportSettings

    settings = check(ReportSettings, plain(config))
    folder = shorten(Path(HydraConfig.get().runtime.output_dir))

    from mask_lightning.pipelines import report as report_runs

    report_runs.report_run(settings, folder)


if __name__ == "__main__":
    open_door("report", main)
