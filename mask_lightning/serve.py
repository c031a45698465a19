"""Serve a trained run over HTTP, with a web page for photos and the camera."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.serve import ServeSettings


def main(settings: ServeSettings, _: Job) -> None:
    """Answer requests until Ctrl-C or SIGTERM."""
    from mask_lightning.pipelines.serve import serve

    serve(settings)


if __name__ == "__main__":
    run_command("serve", ServeSettings, main)
