"""`python -m mask_lightning.check_submission`: is this CSV fit to be handed in, and how does it differ from another?"""

from __future__ import annotations

from omegaconf import DictConfig

from mask_lightning.cli.command import open_door, plain


def main(config: DictConfig) -> None:
    """One job: the composed config -> tables, and an error if the submission is not valid."""
    from mask_lightning.settings.base import check
    from mask_lightning.settings.inference import CheckSubmissionSettings

    settings = check(CheckSubmissionSettings, plain(config))

    from mask_lightning.pipelines import predict as prediction_runs

    prediction_runs.check_submission(settings)


if __name__ == "__main__":
    open_door("check_submission", main)
