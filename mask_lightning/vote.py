"""Combine the members of an ensemble by votes and model soups."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.inference import VoteSettings


def main(settings: VoteSettings, job: Job) -> None:
    """Write scores of members, votes and soups, and the combined predictions."""
    from mask_lightning.pipelines.vote import vote

    vote(settings, job.folder)


if __name__ == "__main__":
    run_command("vote", VoteSettings, main)
