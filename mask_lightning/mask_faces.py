"""`python -m mask_lightning.mask_faces`: photos of faces in, photos of people with and without masks out."""

from __future__ import annotations

from omegaconf import DictConfig

from mask_lightning.cli.command import open_door, plain


def main(config: DictConfig) -> None:
    """One job: the composed config -> a new folder in the competition's layout."""
    from mask_lightning.settings.base import check
    from mask_lightning.settings.mask_faces import MaskFacesSettings

    settings = check(MaskFacesSettings, plain(config))

    from mask_lightning.pipelines import mask_faces as masking_runs
    from mask_lightning.reports.masking_report import print_masked

    print_masked(masking_runs.mask_faces(settings))


if __name__ == "__main__":
    open_door("mask_faces", main)
