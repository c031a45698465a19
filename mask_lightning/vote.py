"""`python -m mask_lightning.vote`: the trained members of an ensemble in, their common answers and scores out."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mask_lightning.cli.command import open_door, plain, shorten


def main(config: DictConfig) -> None:
    """One job: the composed config -> a folder with the ensemble's answers and scores."""
    from mask_lightning.settings.base import check
    from mask_lightning.settings.inference import VoteSettings

    settings = check(VoteSettings, plain(config))
    folder = shorten(Path(HydraConfig.get().runtime.output_dir))

    from mask_lightning.pipelines import vote as vote_runs

    vote_runs.hold_vote(settings, folder)


if __name__ == "__main__":
    open_door("vote", main)
