"""A timm backbone as stages: parts that run one after the other, each ending at a smaller map of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from mask_lightning.errors import ConfigError

FIRST_REDUCTION = 4  # what comes before is the stem: a map of half the image's side is large and says little


@dataclass(frozen=True)
class Stage:
    """Part of a backbone.

    Attributes:
        modules: names of the backbone's modules, in the order in which they run.
        channels: of the map at its end.
    """

    modules: tuple[str, ...]
    channels: int


@dataclass(frozen=True)
class Stages:
    """How a backbone runs in parts: all stages in order, then `finish`, are its own forward pass.

    Attributes:
        parts: the stages from the image up; the stem belongs to the first.
        tail: names of the modules between the last map and the pooling.
        channel_dim: of the maps: 1, or 3 where the backbone keeps them as (B, H, W, C).
    """

    parts: tuple[Stage, ...]
    tail: tuple[str, ...]
    channel_dim: int

    def finish(self, backbone: nn.Module, maps: Tensor) -> Tensor:
        """Maps of the last stage -> features (B, F)."""
        features: Tensor = cast(Any, backbone).forward_head(run(backbone, self.tail, maps))
        return features


def run(backbone: nn.Module, modules: Sequence[str], inputs: Tensor) -> Tensor:
    """Pass a tensor through some of a backbone's modules, one after the other."""
    for name in modules:
        inputs = backbone.get_submodule(name)(inputs)
    return inputs


def find_stages(backbone: nn.Module, *, size: int) -> Stages:
    """The stages of a backbone, by the maps that timm names; tried on an image, so that they are sure to fit.

    Args:
        backbone: `create_backbone(...)`; unchanged.
        size: side of an image that it takes.

    Raises:
        ConfigError: it has none that run one after the other.
    """
    image = torch.linspace(-1, 1, 3 * size * size, device=next(backbone.parameters()).device).view(1, 3, size, size)
    training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            stages = _cut(backbone, _run_order(backbone, image))
            fits = len(stages.parts) > 1 and _is_the_same(backbone, stages, image)
    except Exception:  # whatever modules raise that get what was not meant for them
        fits = False
    finally:
        backbone.train(training)
    if not fits:
        raise ConfigError(
            f"expected a backbone of stages that run one after the other, found {type(backbone).__name__}; "
            "take a CNN or a Swin, or sharing=hard or none"
        )
    return stages


def _run_order(backbone: nn.Module, image: Tensor) -> list[str]:
    """Names of the modules that make the image a map, in the order in which they are called."""
    called: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: called.append(name))
        for name, module in _outer_modules(backbone)
    ]
    try:
        cast(Any, backbone).forward_features(image)
    finally:
        for hook in hooks:
            hook.remove()
    return called


def _outer_modules(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    """The backbone's children; of a chain of modules its links, since a stage may end at any of them."""
    outer = []
    for name, child in backbone.named_children():
        links = child.named_children() if isinstance(child, nn.Sequential) else ()
        outer += [(f"{name}.{link}", module) for link, module in links] or [(name, child)]
    return outer


def _cut(backbone: nn.Module, order: Sequence[str]) -> Stages:
    """A stage ends at the last map of its size: at a module that timm names, or at the last link of one."""
    maps = [entry for entry in _feature_info(backbone) if entry["reduction"] >= FIRST_REDUCTION]
    parts, start = [], 0
    for entry in {entry["reduction"]: entry for entry in maps}.values():
        chain = entry["module"]
        end = 1 + max(i for i, name in enumerate(order) if name == chain or name.startswith(f"{chain}."))
        parts.append(Stage(tuple(order[start:end]), entry["num_chs"]))
        start = end
    channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    return Stages(tuple(parts), tuple(order[start:]), channel_dim=3 if channels_last else 1)


def _feature_info(backbone: nn.Module) -> list[Mapping[str, Any]]:
    return list(cast(Any, backbone).feature_info)


def _is_the_same(backbone: nn.Module, stages: Stages, image: Tensor) -> bool:
    """Whether the stages say what the backbone says, and every map has the shape that it should have."""
    maps = image
    for stage in stages.parts:
        maps = run(backbone, stage.modules, maps)
        if maps.ndim != 4 or maps.shape[stages.channel_dim] != stage.channels:
            return False
    ours, its = stages.finish(backbone, maps), backbone(image)
    return ours.shape == its.shape and (image.is_meta or torch.allclose(ours, its))
