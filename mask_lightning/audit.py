"""`python -m mask_lightning.audit`: a folder of photos in, everything that is wrong with it out."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mask_lightning.cli.command import ExitCode, open_door, plain, shorten

EXIT_TRAINING_WOULD_FAIL = ExitCode(1)


def main(config: DictConfig) -> ExitCode:
    """One job: the composed config -> 0 if training can start on these photos, 1 if it would fail."""
    from mask_lightning.settings.base import check
    from mask_lightning.settings.evaluation import AuditSettings

    settings = check(AuditSettings, plain(config))

    from mask_lightning.pipelines.audit import audit_run

    audit = audit_run(settings, shorten(Path(HydraConfig.get().runtime.output_dir)))
    return EXIT_TRAINING_WOULD_FAIL if audit.stops_training else ExitCode(0)


if __name__ == "__main__":
    open_door("audit", main)
