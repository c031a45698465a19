"""Weights of runs, checkpoints and state dicts: what is loaded, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mask_lightning.errors import WeightsError
from mask_lightning.models.backbones import create_backbone
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.models.weights_file import METADATA, Loaded, load_weights, read_weights
from mask_lightning.settings.model import SharingSettings

NAME = "test_resnet"
TASKS = {"mask": ["mask", "incorrect", "normal"], "gender": ["male", "female"]}
AGE = {"age": ["<30", "30-59", ">=60"]}
State = dict[str, Any]


def network(seed: int, tasks: State = TASKS, sharing: str = "hard", heads: State | None = None) -> MultiTaskNetwork:
    torch.manual_seed(seed)
    counts = {task: len(classes) for task, classes in tasks.items()}
    return MultiTaskNetwork(NAME, counts, sharing=SharingSettings(name=sharing), heads=heads)


def options(tasks: State = TASKS, heads: State | None = None, backbone: str = NAME) -> State:
    transform = {"size": 64, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    return {"backbone": backbone, "tasks": tasks, "network": {"heads": heads or {}}, "transform": transform}


def checkpoint(path: Path, source: MultiTaskNetwork, hyper: State) -> Path:
    """Write the network as a checkpoint of a run has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": source.state_dict(prefix="network."), "hyper_parameters": hyper}, path)
    return path


def load(target: MultiTaskNetwork, path: Path, tasks: State = TASKS, **more: Any) -> Loaded:
    return load_weights(target, read_weights(path), backbone=NAME, tasks=tasks, **{"heads": {}, **more})


def equal(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def backbones_equal(one: MultiTaskNetwork, other: MultiTaskNetwork) -> bool:
    return all(equal(*pair) for pair in zip(one.sharing.backbones, other.sharing.backbones, strict=True))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize(
    ("prefix", "entries"),
    [
        ("", []),
        ("", ["state_dict"]),
        ("", ["model"]),
        ("", ["model", "state_dict"]),
        ("model.", ["state_dict"]),
        ("backbone.", []),
        ("module.", []),
        ("_orig_mod.", []),
        ("module._orig_mod.model.backbone.", ["state_dict"]),
    ],
)
def test_a_backbone_is_found_behind_any_wrappers(tmp_path: Path, suffix: str, prefix: str, entries: list[str]) -> None:
    source, target, path = network(1), network(2), tmp_path / f"weights{suffix}"
    content: Any = source.sharing.backbones[0].state_dict(prefix=prefix)
    content |= {f"{prefix}fc.weight": torch.zeros(1000, 96)}
    for entry in entries:
        content = {entry: content, "epoch": 3}
    torch.save(content, path)
    loaded = load(target, path)
    assert backbones_equal(source, target)
    assert not equal(source.heads, target.heads)
    assert loaded.heads == ()
    assert loaded.unused == {f"{prefix}fc.weight": (1000, 96)}
    assert read_weights(path).normalisation is None


def test_weights_are_loaded_from_safetensors(tmp_path: Path) -> None:
    source, target, path = network(1), network(2), tmp_path / "model.safetensors"
    save_file(source.sharing.backbones[0].state_dict(), path)
    load(target, path)
    assert backbones_equal(source, target)


def test_an_export_says_what_its_heads_mean(tmp_path: Path) -> None:
    source, target, path = network(1), network(2), tmp_path / "model.safetensors"
    save_file(source.state_dict(), path, {METADATA: json.dumps(options())})
    assert load(target, path, keep_heads="on").heads == ("mask", "gender")
    assert equal(source, target)


def test_compiled_parts_have_the_same_names(tmp_path: Path) -> None:
    source, target, path = network(1), network(2), tmp_path / "weights.pth"
    state = source.state_dict(prefix="network._orig_mod.")
    compiled = {name.replace("backbone.", "backbone._orig_mod."): tensor for name, tensor in state.items()}
    torch.save({"state_dict": compiled, "hyper_parameters": options()}, path)
    load(target, path, keep_heads="on")
    assert equal(source, target)


def test_a_run_is_its_best_checkpoint_with_the_heads_of_the_same_classes(tmp_path: Path) -> None:
    source, run = network(1), tmp_path / "run"
    checkpoint(run / "checkpoints" / "best.ckpt", source, options())
    tasks = {"gender": TASKS["gender"], "mask": ["normal", "mask", "incorrect"], **AGE}
    target = network(2, tasks)
    loaded = load(target, run, tasks)
    assert backbones_equal(source, target)
    assert loaded.heads == ("gender",)
    assert equal(source.heads["gender"], target.heads["gender"])
    assert loaded.new_heads == {"mask": "its classes there are mask, incorrect, normal", "age": "not learned there"}
    assert set(loaded.unused) == {"network.heads.mask.linear.weight", "network.heads.mask.linear.bias"}
    assert "heads: gender; new heads: mask (its classes" in str(loaded)
    file = read_weights(run)
    assert file.normalisation == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert file.describe()["backbone"] == NAME
    assert len(file.describe()["sha256"]) == 64


@pytest.mark.parametrize(
    ("heads", "why"),
    [
        ({"name": "corn"}, "head classes there"),
        ({"name": "classes_and_regression", "top": 60.0}, "head classes there"),
        ({"name": "classes"}, None),
    ],
)
def test_a_head_of_another_kind_is_new(tmp_path: Path, heads: State, why: str | None) -> None:
    path = checkpoint(tmp_path / "a.ckpt", network(1, AGE), options(AGE))
    loaded = load(network(2, AGE, heads={"age": heads}), path, AGE, heads={"age": heads})
    assert loaded.new_heads == ({"age": why} if why else {})


def test_heads_are_left_out_or_required(tmp_path: Path) -> None:
    source, target = network(1), network(2)
    path = checkpoint(tmp_path / "a.ckpt", source, options())
    assert load(target, path, keep_heads="off").heads == ()
    assert not equal(source.heads, target.heads)
    with pytest.raises(
        WeightsError, match=r"model.keep_heads=on needs the heads of all tasks .* none for age: not lea"
    ):
        load(network(2, {**TASKS, **AGE}), path, {**TASKS, **AGE}, keep_heads="on")
    torch.save(source.sharing.backbones[0].state_dict(), tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="none for mask: the file records no classes"):
        load(target, tmp_path / "b.pth", keep_heads="on")


def test_half_precision_and_missing_counters_are_loaded(tmp_path: Path) -> None:
    source, target = network(1), network(2)
    state = {name: value.half() for name, value in source.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "a.pth")
    load(target, tmp_path / "a.pth")
    found = target.sharing.backbones[0].conv1[0].weight  # type: ignore[union-attr,index]
    assert found.dtype == torch.float32
    assert torch.equal(found, source.sharing.backbones[0].conv1[0].weight.half().float())  # type: ignore[union-attr,index]


@pytest.mark.parametrize(
    ("before", "after"), [("hard", "none"), ("hard", "cross_stitch"), ("none", "none"), ("attention", "attention")]
)
def test_sharings_that_fit(tmp_path: Path, before: str, after: str) -> None:
    source, target = network(1, sharing=before), network(2, sharing=after)
    path = checkpoint(tmp_path / "a.ckpt", source, options())
    loaded = load(target, path)
    assert loaded.heads == ("mask", "gender")
    if before == after:
        assert equal(source, target)
    else:
        assert all(equal(source.sharing.backbones[0], each) for each in target.sharing.backbones)


@pytest.mark.parametrize(("after", "tasks"), [("hard", TASKS), ("none", {**TASKS, **AGE})])
def test_backbones_per_task_need_the_same_tasks(tmp_path: Path, after: str, tasks: State) -> None:
    path = checkpoint(tmp_path / "a.ckpt", network(1, sharing="none"), options())
    with pytest.raises(WeightsError, match=r"has backbones for each of mask, gender, expected .*; set sharing=none"):
        load(network(2, tasks, sharing=after), path, tasks)


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
        read_weights(path)
    torch.save({"state_dict": Intruder(mark)}, path)
    with pytest.raises(WeightsError, match="cannot read weights"):
        read_weights(path)
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
        read_weights(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"best\.ckpt, found none; name a run that has ended an epoch"):
        read_weights(tmp_path)


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
        load(network(1), tmp_path / "weights.pth")


def test_weights_of_another_model_are_refused_and_load_nothing(tmp_path: Path) -> None:
    torch.save(create_backbone("test_efficientnet").state_dict(), tmp_path / "other.pth")
    target = network(1)
    message = r"expected \d+ tensors of test_resnet .* the weights of another model, whose first tensor is conv_stem"
    with pytest.raises(WeightsError, match=message):
        load(target, tmp_path / "other.pth")
    assert equal(target, network(1))
    path = checkpoint(tmp_path / "a.ckpt", network(1), options(backbone="test_resnet2"))
    with pytest.raises(WeightsError, match="the weights of another model, test_resnet2, expected those of test_resnet"):
        load(target, path)


def test_one_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    state = create_backbone(NAME).state_dict()
    state["layer2.0.bn1.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"found 1 missing or of another shape \(layer2\.0\.bn1\.weight\)"):
        load(network(1), tmp_path / "other.pth")


@pytest.mark.parametrize("size", [160, 128])
def test_position_embeddings_of_a_file_are_resampled_where_necessary(tmp_path: Path, size: int) -> None:
    """test_vit has 160 / 16 = 10 patches per side, and 8 at 128 pixels."""
    source = MultiTaskNetwork("test_vit", {"gender": 2}, image_size=size)
    hyper = {**options(backbone="test_vit"), "transform": {"size": size}}
    path = checkpoint(tmp_path / "a.ckpt", source, hyper)
    target = MultiTaskNetwork("test_vit", {"gender": 2}, image_size=128)
    tasks = {"gender": TASKS["gender"]}
    load_weights(target, read_weights(path), backbone="test_vit", tasks=tasks, heads={}, image_size=128)
    old, new = (each.sharing.backbones[0] for each in (source, target))
    assert torch.equal(old.patch_embed.proj.weight, new.patch_embed.proj.weight)  # type: ignore[union-attr]
    assert torch.equal(old.pos_embed, new.pos_embed) == (size == 128)  # type: ignore[arg-type]
    assert torch.equal(old.pos_embed[:, 0], new.pos_embed[:, 0])  # type: ignore[index]
