"""Options of mask_faces."""

from __future__ import annotations

from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from mask_lightning.cli.compose import config_dir
from mask_lightning.errors import ConfigError
from mask_lightning.settings.base import check
from mask_lightning.settings.mask_faces import MaskFacesSettings

FAIRFACE = ("data=fairface", "data.root=faces")


def settings(*overrides: str) -> MaskFacesSettings:
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config: Any = OmegaConf.to_container(hydra.compose("mask_faces", list(overrides)), resolve=True)
    return check(MaskFacesSettings, config)


def test_the_defaults_hold() -> None:
    found = settings(*FAIRFACE, "out=new", "seed=3")
    assert (found.crop, found.landmarks, found.max_yaw, found.workers) == (None, "auto", 35.0, None)
    assert found.data.split_seed == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["out=new"], "needs a set of faces, found data=auto; choose data=fairface, utkface, table or competition"),
        (FAIRFACE, "needs out, found null; set it to a folder that does not exist yet"),
        (["data=fairface", "out=new"], "data=fairface needs data.root"),
        (["data=table", "out=new"], "data=table needs data.table"),
        ([*FAIRFACE, "out=new", "crop=fairface"], "crop must be 'fairface_025', .* or 'portrait', got 'fairface'"),
        ([*FAIRFACE, "out=new", "landmarks=dlib"], "landmarks must be 'auto', .* or 'geometry', got 'dlib'"),
        ([*FAIRFACE, "out=new", "max_yaw=0"], "max_yaw must be greater than 0, got 0"),
        ([*FAIRFACE, "out=new", "workers=0"], "workers must be greater than or equal to 1, got 0"),
    ],
)
def test_a_mistake_is_told(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(*overrides)
