"""`python -m mask_lightning.train`: photos in, a trained network and its scores out."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mask_lightning.cli.command import open_door, plain, shorten
from mask_lightning.errors import ConfigError
from mask_lightning.metrics.names import lower_is_better


def main(config: DictConfig) -> float | None:
    """One job: the composed config -> what an Optuna sweep maximises, None for inspect.

    That is the monitored score of best.ckpt, negated where it is a loss.
    """
    from mask_lightning.settings.base import check
    from mask_lightning.settings.train import TrainSettings

    settings = check(TrainSettings, plain(config))
    hydra_config = HydraConfig.get()
    if settings.ensemble and hydra_config.mode != RunMode.MULTIRUN:
        raise ConfigError(f"ensemble={settings.ensemble} trains several members, found a single run; add -m")
    folder, overrides = shorten(Path(hydra_config.runtime.output_dir)), list(hydra_config.overrides.task)

    from mask_lightning.pipelines import train as runs

    if settings.inspect:
        runs.inspect_run(settings)
        return None
    if hydra_config.mode == RunMode.MULTIRUN:
        from mask_lightning.pipelines import sweep_job as jobs

        score = jobs.run_job(settings, folder, overrides).score
        return -score if score is not None and lower_is_better(settings.monitor) else score
    if settings.resume is not None:
        return runs.resume_run(settings.resume, overrides).score
    return runs.train_run(settings, folder, overrides).score


if __name__ == "__main__":
    open_door("train", main)
