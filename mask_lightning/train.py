"""Train a network on labelled photos of faces."""

from __future__ import annotations

from mask_lightning.cli.command import Job, Ranks, run_command
from mask_lightning.errors import ConfigError
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps.studies import score_to_maximise
from mask_lightning.utils.launch import find_launch


def main(settings: TrainSettings, job: Job) -> float | None:
    """Train, inspect or resume one run.

    Returns:
        The value that an Optuna sweep maximises: the monitored score of best.ckpt, negated if it is a loss; None if
        there is no score, or if another process still trains the run.
    """
    settings = settings.on(find_launch())
    if settings.ensemble and not job.is_multirun:
        raise ConfigError(f"ensemble={settings.ensemble} trains several members, found a single run; add -m")

    from mask_lightning.pipelines import sweep_job, train

    if settings.inspect:
        train.inspect_run(settings)
        return None
    if job.is_multirun:
        result = sweep_job.run_job(settings, job.folder, job.overrides)
        if result.score is None or result.status not in ("finished", "pruned"):
            return None
        return score_to_maximise(result.score, settings.monitor)
    if settings.resume is not None:
        return train.resume_run(settings.resume, job.overrides).score
    return train.train_run(settings, job.folder, job.overrides).score


def ranks() -> Ranks:
    """Load what the processes of torchrun do."""
    from mask_lightning.engine import torchrun
    from mask_lightning.pipelines import ddp_process

    return Ranks(ddp_process.follow, torchrun.dismiss)


if __name__ == "__main__":
    run_command("train", TrainSettings, main, ranks=ranks)
