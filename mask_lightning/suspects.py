"""`python -m mask_lightning.suspects`: the runs of a cross-validation in, a list of likely wrong labels out."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mask_lightning.cli.command import open_door, plain, shorten


def main(config: DictConfig) -> None:
    """One job: the composed config -> a folder with the list, for a person to review."""
    from mask_lightning.settings.base import check
    from mask_lightning.settings.evaluation import SuspectsSettings

    settings = check(SuspectsSettings, plain(config))
    folder = shorten(Path(HydraConfig.get().runtime.output_dir))

    from mask_lightning.pipelines import suspects as suspects_runs

    suspects_runs.list_suspects(settings, folder)


if __name__ == "__main__":
    open_door("suspects", main)
