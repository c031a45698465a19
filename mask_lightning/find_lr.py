"""`python -m mask_lightning.find_lr`: the options of a run in, the learning rate to train it with out."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mask_lightning.cli.command import open_door, plain, shorten


def main(config: DictConfig) -> None:
    """One job: the composed config -> a folder with the curve of a learning rate range test."""
    from mask_lightning.settings.base import check
    from mask_lightning.settings.train import TrainSettings

    settings = check(TrainSettings, plain(config))
    hydra_config = HydraConfig.get()
    folder, overrides = shorten(Path(hydra_config.runtime.output_dir)), list(hydra_config.overrides.task)

    from mask_lightning.pipelines import find_lr as range_test_runs

    range_test_runs.find_lr(settings, folder, overrides)


if __name__ == "__main__":
    open_door("find_lr", main)
