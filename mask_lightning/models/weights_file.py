"""Weights of an earlier run, a checkpoint or a state dict: find the file, read it, and load it into a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from mask_lightning.errors import RunFolderError, WeightsError
from mask_lightning.models.backbones import create_backbone, size_options
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.models.sharing import NoSharing
from mask_lightning.runs.folder import RunFolder
from mask_lightning.utils.files import find_path

WRAPPERS = ("model", "backbone", "module", "_orig_mod", "network", "sharing")
"""Names that wrappers put before the names of tensors, in any nesting: Lightning modules, DDP, torch.compile, ours."""

METADATA = "mask_lightning"
"""Key of a .safetensors file's metadata: backbone, tasks, network and transform of its checkpoint, as JSON."""

HEADS_FILE = "heads.safetensors"
"""File beside an exported model.safetensors that has only the backbone: the other tensors, and the METADATA."""

TRUNKS = "sharing.trunks."  # NoSharing's backbones, by task

State = dict[str, Tensor]
KeepHeads = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class WeightsFile:
    """Content of a file with weights.

    Attributes:
        named: path as typed.
        path: the file.
        state: name -> tensor, as in the file.
        options: hyper-parameters of a checkpoint of this package; {} for weights from elsewhere.
    """

    named: Path
    path: Path
    state: State
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def backbone(self) -> str | None:
        """Name of the timm model; None if it is not recorded."""
        return self.options.get("backbone")

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and std per channel of the photos that the weights were trained on; None if they are not recorded."""
        transform = self.options.get("transform") or {}
        found = tuple(tuple(float(value) for value in transform.get(name, ())) for name in ("mean", "std"))
        return (found[0], found[1]) if all(len(values) == 3 for values in found) else None

    @property
    def run(self) -> RunFolder | None:
        """The run that the file is a checkpoint of; None if there is no record of it."""
        folder = RunFolder(self.path.parent.parent)
        return folder if self.path.parent == folder.best.parent and folder.result.is_file() else None

    @cached_property
    def own_state(self) -> State:
        """Tensors by their name in a MultiTaskNetwork, such as `heads.age.linear.weight`; {} for a bare backbone."""
        names = {name: _strip(name, ("model", "module", "_orig_mod", "network")) for name in self.state}
        return {own: self.state[name] for name, own in names.items() if own.startswith(("sharing.", "heads."))}

    def describe(self) -> dict[str, Any]:
        """Return the file's hash, and what the run that it comes from was trained on, for result.json."""
        record: dict[str, Any] = {
            "path": str(self.named),
            "file": str(self.path),
            "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest(),
            "backbone": self.backbone,
        }
        if self.run is not None:
            try:
                earlier = self.run.read_result()
            except RunFolderError:
                return record
            plain = {name: value for name, value in earlier.data.items() if isinstance(value, str | int | float)}
            record |= {"run": str(self.run.path), "weights": earlier.weights, "data": plain}
            record |= {"pretrained": earlier.pretrained}
        return record


def read_weights(path: Path) -> WeightsFile:
    """Read weights without executing code from the file.

    Args:
        path: run folder (its best.ckpt), folder of an exported model (its model.safetensors), or a .ckpt, .pt, .pth or
            .safetensors file. A state dict may be the file's content or its entry `state_dict` or `model`.

    Raises:
        WeightsError: there is no such file, it cannot be read, or it has no tensors.
    """
    found = find_path(path)
    exported = found / "model.safetensors"
    file = exported if exported.is_file() else RunFolder(found).best if found.is_dir() else found
    if not file.is_file():
        reason = "found none; name a run that has ended an epoch" if found.is_dir() else "found no file"
        raise WeightsError(
            f"expected weights at {file}, {reason}; set model.pretrained to a run, a file, auto or false"
        )
    try:
        content, options = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    except Exception as error:  # safetensors and pickle raise many types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise WeightsError(f"cannot read weights from {file} ({reason}); is it a state dict?") from error
    while isinstance(content, dict) and isinstance(inner := content.get("state_dict", content.get("model")), dict):
        content = inner
    if not isinstance(content, dict):
        raise WeightsError(f"expected a state dict in {file}, found {type(content).__name__}; save model.state_dict()")
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    known = all(isinstance(options.get(name), kind) for name, kind in (("backbone", str), ("tasks", dict)))
    return WeightsFile(path, file, state, options if known else {})


def _read_safetensors(file: Path) -> tuple[State, Mapping[str, Any]]:
    from safetensors import safe_open

    state: State = {}
    options: Mapping[str, Any] = {}
    heads = file.with_name(HEADS_FILE)
    for path in [file, *([heads] if heads.is_file() and heads != file else [])]:
        with safe_open(path, "pt") as opened:
            options = json.loads((opened.metadata() or {}).get(METADATA, "{}")) or options
            state |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
    return state, options


def _read_pickle(file: Path) -> tuple[Any, Mapping[str, Any]]:
    content = torch.load(file, map_location="cpu", weights_only=True)
    options = content.get("hyper_parameters") if isinstance(content, dict) else None
    return content, options if isinstance(options, dict) else {}


@dataclass(frozen=True)
class Loaded:
    """Tensors and heads that were loaded from a file, for the log and result.json.

    Attributes:
        tensors: number of tensors of the network that were replaced, heads included.
        heads: tasks whose head was loaded.
        new_heads: task -> why its head was not loaded.
        unused: tensors of the file that the network does not have, with their shapes.
    """

    tensors: int
    heads: tuple[str, ...]
    new_heads: Mapping[str, str]
    unused: Mapping[str, tuple[int, ...]]

    def __str__(self) -> str:
        parts = [f"{self.tensors} tensors", f"heads: {', '.join(self.heads) or 'none'}"]
        if self.new_heads:
            parts.append("new heads: " + ", ".join(f"{task} ({why})" for task, why in self.new_heads.items()))
        if self.unused:
            named = [f"{name} {list(shape)}" for name, shape in list(self.unused.items())[:3]]
            more = ", ..." if len(self.unused) > 3 else ""
            parts.append(f"{len(self.unused)} tensors of the file not used ({', '.join(named)}{more})")
        return "; ".join(parts)


def load_weights(
    network: MultiTaskNetwork,
    file: WeightsFile,
    *,
    backbone: str,
    tasks: Mapping[str, list[str]],
    heads: Mapping[str, Mapping[str, Any]],
    keep_heads: KeepHeads = "auto",
    image_size: int | None = None,
) -> Loaded:
    """Load a file's weights into the backbones of a network, and into heads with the same meaning.

    A file of a single backbone is loaded into every backbone. A file with a backbone per task is loaded into the
    backbones of the same tasks. Layers between the tasks (`sharing=attention`, `cross_stitch`) are loaded if the file
    has all of them. A counter of batches, which old files lack, may be missing.

    Args:
        network: changed in place.
        file: the weights.
        backbone: timm name of the network's backbones.
        tasks: task -> class names of the network.
        heads: task -> `name` and options of its head, as MultiTaskNetwork takes them.
        keep_heads: "auto" loads the heads of tasks with the same classes and kind of head, "on" requires all of them,
            "off" loads none.
        image_size: side of the photos, pixels; None is the backbone's own. timm resamples learned positions.

    Raises:
        WeightsError: the weights are those of another architecture, or a required head does not fit.
    """
    check_architecture(file, backbone)
    new_heads = _find_new_heads(network, file, tasks, heads, keep_heads)
    kept = tuple(task for task in tasks if task not in new_heads)
    sources = _sources(network, file)
    fitting = [(each, backbone_state(each, source, file, backbone, image_size)) for each, source in sources]
    used: set[int] = set()
    for target, state in fitting:  # all fit: nothing is loaded from a file that fits in part
        target.load_state_dict({**target.state_dict(), **state})
        used |= {id(tensor) for tensor in state.values()}
    tensors = sum(len(state) for _, state in fitting)
    between = _between_tasks(network, file)
    further = {f"heads.{task}.{name}" for task in kept for name in network.heads[task].state_dict()} | between
    own = {name: file.own_state[name] for name in further}
    network.load_state_dict({**network.state_dict(), **own})
    used |= {id(tensor) for tensor in own.values()}
    unused = {name: tuple(tensor.shape) for name, tensor in file.state.items() if id(tensor) not in used}
    return Loaded(tensors + len(own), kept, new_heads, unused if size_options(backbone, image_size) == {} else {})


def check_architecture(file: WeightsFile, backbone: str) -> None:
    """Raise WeightsError if the file records another backbone; weights of the same shapes may mean something else."""
    if file.backbone and file.backbone.partition(".")[0] != backbone.partition(".")[0]:
        raise WeightsError(
            f"{file.named} has the weights of another model, {file.backbone}, expected those of {backbone}; set "
            f"model.backbone={file.backbone}, or model.pretrained to weights of {backbone}"
        )


def _sources(network: MultiTaskNetwork, file: WeightsFile) -> list[tuple[nn.Module, State]]:
    """Return each backbone of the network with the state, or the part of it, to look for its tensors in."""
    sharing = network.sharing
    per_task: dict[str, State] = {}
    for name, tensor in file.own_state.items():
        if name.startswith(TRUNKS):
            task, _, rest = name.removeprefix(TRUNKS).partition(".")
            per_task.setdefault(task, {})[rest] = tensor
    if len(per_task) < 2:
        return [(each, next(iter(per_task.values()), file.state)) for each in sharing.backbones]
    if not isinstance(sharing, NoSharing) or not set(sharing.tasks) <= set(per_task):
        found = f"those of {', '.join(sharing.tasks)}" if isinstance(sharing, NoSharing) else "one for all tasks"
        raise WeightsError(
            f"{file.named} has backbones for each of {', '.join(per_task)}, expected {found}; set sharing=none and "
            "tasks of these, or name a run of one backbone"
        )
    return [(sharing.trunks[task], per_task[task]) for task in sharing.tasks]


def backbone_state(
    backbone: nn.Module, source: State, file: WeightsFile, name: str, image_size: int | None = None
) -> State:
    """Return the backbone's tensors in a state dict, under the backbone's own names.

    Args:
        backbone: made by `create_backbone(name, image_size=image_size)`.
        source: state dict of the file, or a part of it.
        file: the file, for messages and the size of its photos.
        name: timm name of the backbone.
        image_size: side of the photos, pixels; None is the backbone's own. timm resamples learned positions.

    Raises:
        WeightsError: a tensor is missing, or has another shape.
    """
    found = _select(backbone, source)
    wrong = mismatched(backbone, found)
    if wrong and size_options(name, image_size):
        # The weights may be for photos of another size; timm resamples what depends on it.
        size = (file.options.get("transform") or {}).get("size")
        native = create_backbone(name, image_size=size)
        found = _select(native, source)
        wrong = mismatched(native, found)
        if not wrong:
            native.load_state_dict({**native.state_dict(), **found})
            found = from_timm(name, image_size, {"state_dict": native.state_dict()}).state_dict()
    if wrong:
        first = next(iter(source.items()), None)
        other = f", whose first tensor is {first[0]} {list(first[1].shape)}" if first else ""
        raise WeightsError(
            f"expected {len(backbone.state_dict())} tensors of {name} in {file.path}, found {len(wrong)} missing or of "
            f"another shape ({', '.join(wrong[:3])}); these are the weights of another model{other}"
        )
    return found


def from_timm(name: str, image_size: int | None, overlay: dict[str, Any] | None) -> nn.Module:
    """Return the pretrained backbone from timm, with weights that depend on the size of the photos resampled."""
    sized = size_options(name, image_size)
    backbone: nn.Module = timm.create_model(
        name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **sized
    )
    return backbone


def _select(backbone: nn.Module, source: State) -> State:
    """Return the backbone's tensors in a state dict, without the wrappers' names before them.

    If several copies are there, such as of a model and of its parts, the most complete one counts, then the first.
    """
    expected = set(backbone.state_dict())
    copies: dict[tuple[str, ...], State] = {}
    for name, tensor in source.items():
        parts = name.split(".")
        wrapped = next((i for i, part in enumerate(parts) if part not in WRAPPERS), 0)
        for i in range(wrapped + 1):
            rest = ".".join(part for part in parts[i:] if part != "_orig_mod")
            if rest in expected:
                copies.setdefault(tuple(parts[:i]), {})[rest] = tensor
    return max(copies.values(), key=len, default={})


def _strip(name: str, wrappers: tuple[str, ...]) -> str:
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in wrappers:
        parts.pop(0)
    return ".".join(part for part in parts if part != "_orig_mod")


def mismatched(backbone: nn.Module, state: State) -> list[str]:
    """Return the names of the backbone's tensors that are missing in `state` or have another shape there."""
    return [
        key
        for key, tensor in backbone.state_dict().items()
        if (key not in state and not key.endswith("num_batches_tracked"))
        or (key in state and state[key].shape != tensor.shape)
    ]


def _between_tasks(network: MultiTaskNetwork, file: WeightsFile) -> set[str]:
    """Return the names of the sharing's own layers if the file has all of them, else none."""
    state = network.sharing.state_dict(prefix="sharing.")
    own = {name: tensor for name, tensor in state.items() if not name.startswith(("sharing.backbone.", TRUNKS))}
    fits = all(name in file.own_state and file.own_state[name].shape == tensor.shape for name, tensor in own.items())
    return set(own) if fits else set()


def _find_new_heads(
    network: MultiTaskNetwork,
    file: WeightsFile,
    tasks: Mapping[str, list[str]],
    heads: Mapping[str, Mapping[str, Any]],
    keep_heads: KeepHeads,
) -> dict[str, str]:
    """Return task -> why its head cannot be loaded. Raises WeightsError if it must be."""
    if keep_heads == "off":
        return dict.fromkeys(tasks, "model.keep_heads=off")
    if not file.options:
        reasons = dict.fromkeys(tasks, "the file records no classes")
    else:
        earlier = (file.options.get("network") or {}).get("heads") or {}
        found = {
            task: _why_new(network, file, task, classes, heads.get(task, {}), earlier.get(task, {}))
            for task, classes in tasks.items()
        }
        reasons = {task: why for task, why in found.items() if why}
    if reasons and keep_heads == "on":
        task, why = next(iter(reasons.items()))
        raise WeightsError(
            f"model.keep_heads=on needs the heads of all tasks in {file.named}, found none for {task}: {why}; set it "
            "to auto"
        )
    return reasons


def _why_new(
    network: MultiTaskNetwork,
    file: WeightsFile,
    task: str,
    classes: list[str],
    head: Mapping[str, Any],
    earlier: Mapping[str, Any],
) -> str | None:
    known = file.options["tasks"]
    if task not in known:
        return "not learned there"
    if list(known[task]) != list(classes):
        return f"its classes there are {', '.join(map(str, known[task]))}"
    kinds = [(each.get("name", "classes"), each.get("top")) for each in (head, earlier)]
    if kinds[0] != kinds[1]:
        return f"head {kinds[1][0]} there"
    for name, tensor in network.heads[task].state_dict().items():
        found = file.own_state.get(f"heads.{task}.{name}")
        if found is None or found.shape != tensor.shape:
            return "of another shape there"
    return None
