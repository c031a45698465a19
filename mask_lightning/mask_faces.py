"""Draw masks on photos of faces to make training photos of all three tasks."""

from __future__ import annotations

from mask_lightning.cli.command import Job, run_command
from mask_lightning.settings.mask_faces import MaskFacesSettings


def main(settings: MaskFacesSettings, _: Job) -> None:
    """Write the folder `out` and print who was left out."""
    from mask_lightning.pipelines.mask_faces import mask_faces

    mask_faces(settings)


if __name__ == "__main__":
    run_command("mask_faces", MaskFacesSettings, main)
