"""`python -m mask_lightning.predict`: a trained run and photos in, answers out."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mask_lightning.cli.command import open_door, plain, shorten


def main(config: DictConfig) -> None:
    """One job: the composed config -> a folder with predictions and a submission."""
    from mask_lightning.settings.base import check
    from mask_lightning.settings.inference import PredictSettings

    settings = check(PredictSettings, plain(config))
    folder = shorten(Path(HydraConfig.get().runtime.output_dir))

    from mask_lightning.pipelines import predict as prediction_runs

    prediction_runs.predict_photos(settings, folder)


if __name__ == "__main__":
    open_door("predict", main)
