"""Write prepared photos and their labels as chunks, to a folder or to S3, for data=packed."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.pack import PackSettings


def main(settings: PackSettings, _: Job) -> None:
    """Write the folder or address `out`, and print what it holds."""
    from mask_lightning.pipelines.pack import pack_photos

    pack_photos(settings)


if __name__ == "__main__":
    run_command("pack", PackSettings, main)
