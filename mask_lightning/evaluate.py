"""`python -m mask_lightning.evaluate`: a trained run in, what it is worth out."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mask_lightning.cli.command import open_door, plain, shorten


def main(config: DictConfig) -> None:
    """One job: the composed config -> a folder with scores, predictions and pictures."""
    from mask_lightning.settings.base import check
    from mask_lightning.settings.evaluation import EvaluateSettings

    settings = check(EvaluateSettings, plain(config))
    folder = shorten(Path(HydraConfig.get().runtime.output_dir))

    from mask_lightning.pipelines import evaluate as evaluation_runs

    evaluation_runs.evaluate_run(settings, folder)


if __name__ == "__main__":
    open_door("evaluate", main)
