"""Helpers of tests/golden and test_golden.py: a backbone of 3,018 parameters, commands in this process, archives."""

from __future__ import annotations

import runpy
import sys
import tarfile
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.resnet import BasicBlock, ResNet

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def golden_resnet(
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: Any = None,
    **options: Any,
) -> ResNet:
    """Build a ResNet of four blocks with 4 to 8 channels, whose checkpoints are small."""
    channels = (4, 4, 8, 8)
    return ResNet(BasicBlock, (1, 1, 1, 1), channels=channels, stem_width=2, stem_type="deep", **options)


if not timm.is_model("golden_resnet"):
    timm.models.register_model(golden_resnet)


def run_command(name: str, *arguments: str) -> int:
    """Run `python -m mask_lightning.<name> <arguments>` in this process and return its exit code."""
    before, sys.argv = sys.argv, [f"mask_lightning.{name}", *arguments]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'mask_lightning.* found in sys.modules", RuntimeWarning)
            warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN", UserWarning)
            # oneDNN's AVX2 kernel for strided 1x1 convolutions of fewer than 8 channels writes past its buffer.
            with torch.backends.mkldnn.flags(enabled=False):  # type: ignore[no-untyped-call]
                runpy.run_module(f"mask_lightning.{name}", run_name="__main__")
    except SystemExit as left:
        return int(left.code or 0)
    finally:
        sys.argv = before
    raise AssertionError(f"mask_lightning.{name} returned instead of exiting")


def pack(kind: str, place: Path, *names: str) -> Path:
    """Write the folders `names` in `place` to tests/golden/<kind>.tar.xz, without figures, pages, logs and caches."""
    archive = GOLDEN / f"{kind}.tar.xz"

    def kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        path = Path(entry.name)
        if path.suffix in {".log", ".lock", ".html"} or path.name in {".claims", "cache", "multirun.yaml"}:
            return None
        if path.parts[0] == "outputs" and path.suffix == ".png":
            return None
        entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 1_700_000_000, 0, 0, "", ""
        return entry

    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for name in names:
            tar.add(place / name, name, filter=kept)
    return archive


def unpack(kind: str, place: Path) -> None:
    """Unpack tests/golden/<kind>.tar.xz into `place`."""
    with tarfile.open(GOLDEN / f"{kind}.tar.xz") as tar:
        tar.extractall(place, filter="data")
