"""timm backbones: creation, input size, layer groups and stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import timm
import torch
from timm.models import PretrainedCfg, group_parameters
from torch import Tensor, nn

from mask_lightning.errors import ConfigError, did_you_mean

LayerGroups = dict[str, dict[str, nn.Parameter]]
"""Layer group -> parameter name -> parameter, in the order of the forward pass."""

HEADS = "heads"
"""Name of the last layer group."""

FIRST_REDUCTION = 4  # larger feature maps belong to the stem


class InputSpec(NamedTuple):
    """Photos that pretrained weights expect.

    Attributes:
        size: side of the square, pixels.
        mean: per channel, of values in 0..1.
        std: per channel, of values in 0..1.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def check_backbone(name: str) -> None:
    """Raise ConfigError, with the nearest names, if timm has no such model or no such pretrained tag of it."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(name):
        known = timm.list_models()
    elif tag and name not in timm.list_pretrained():
        known = [architecture, *timm.list_pretrained(f"{architecture}.*")]
    else:
        return
    raise ConfigError(f"timm {timm.__version__} has no model {name!r}; {did_you_mean(name, known)}")


def input_spec(name: str) -> InputSpec:
    """Return the input that timm's default weights of a backbone were trained on.

    Raises:
        ConfigError: timm has no such model.

    Example:
        >>> input_spec("tf_efficientnet_lite0")
        InputSpec(size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    """
    check_backbone(name)
    config = timm.get_pretrained_cfg(name) or PretrainedCfg()  # a few timm models have no weights
    return InputSpec(config.input_size[-1], tuple(config.mean), tuple(config.std))


def takes_any_size(name: str) -> bool:
    """Return True if a backbone takes photos of any size; transformers that learn positions are built for one size."""
    config = timm.get_pretrained_cfg(name)
    return config is None or not config.fixed_input_size


def size_options(name: str, image_size: int | None) -> dict[str, Any]:
    """Return the arguments of timm.create_model for square photos of `image_size`; None is the backbone's own size."""
    if image_size is None or takes_any_size(name) or image_size == input_spec(name).size:
        return {}
    return {"img_size": image_size}


def create_backbone(name: str, *, image_size: int | None = None, drop_path_rate: float = 0.0) -> nn.Module:
    """Create an untrained backbone: images (B, 3, H, W) -> pooled features (B, F), with F = `count_features`.

    Args:
        name: name of a timm model.
        image_size: H = W of the photos; None is the size its weights were trained on. Most backbones take any size.
        drop_path_rate: stochastic depth, if the backbone has it (Huang et al. 2016, "Deep networks with stochastic
            depth", arXiv:1603.09382).

    Raises:
        ConfigError: timm has no such model, or it cannot be built without its classifier or for this size.

    Example:
        >>> create_backbone("test_resnet")(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 96])
    """
    check_backbone(name)
    options: dict[str, Any] = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
    sized = size_options(name, image_size)
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **options, **sized)
        if image_size is not None and sized:
            _run_once(backbone, image_size)  # some models accept the option and fail with the first photo
    except (TypeError, RuntimeError, ValueError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error}"
        if sized:
            raise ConfigError(
                f"{name} is made for photos of {input_spec(name).size} pixels and cannot be built for {image_size} "
                f"({reason}); set model.image_size to its own"
            ) from error
        raise ConfigError(f"expected a timm classifier, {name} cannot be built without its head ({reason})") from error
    return backbone


def _run_once(backbone: nn.Module, size: int) -> None:
    with torch.no_grad():
        backbone.eval()(torch.zeros(1, 3, size, size, device=next(backbone.parameters()).device))
    backbone.train()


def count_features(backbone: nn.Module) -> int:
    """Return F of a backbone's features (B, F), including a layer after the pooling, which `num_features` ignores."""
    model = cast(Any, backbone)
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameter values of a model, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, size: int) -> int:
    """Return the floating-point operations of a forward pass, a multiply-add as two, by torch's FlopCounterMode.

    Args:
        model: takes images (1, 3, size, size); left unchanged.
        size: side of the image, pixels.
    """
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device
    training = model.training
    model.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.zeros(1, 3, size, size, device=device))
    model.train(training)
    return int(counter.get_total_flops())


# ---- layer groups


def backbone_groups(backbone: nn.Module) -> LayerGroups:
    """Return a backbone's layer groups by timm's grouping: `stem`, `block1`, ...

    A block is one feature block; resnet34 has 16. Every parameter is in exactly one group. Layers after the last block,
    such as a final norm, are a group of their own or part of the last block, as timm defines it.

    Example:
        >>> list(backbone_groups(create_backbone("test_resnet")))
        ['stem', 'block1', 'block2', 'block3', 'block4']
    """
    parameters = dict(backbone.named_parameters())
    matcher = cast(Any, backbone).group_matcher(coarse=False)
    grouped = group_parameters(backbone, matcher)
    return {
        f"block{i}" if i else "stem": {name: parameters[name] for name in names} for i, names in sorted(grouped.items())
    }


# ---- stages


@dataclass(frozen=True)
class Stage:
    """Part of a backbone that ends at a smaller feature map.

    Attributes:
        modules: names of the backbone's modules, in the order of the forward pass.
        channels: number of channels of the feature map at its end.
    """

    modules: tuple[str, ...]
    channels: int


@dataclass(frozen=True)
class Stages:
    """A backbone as a sequence: all stages in order, then `finish`, are its forward pass.

    Attributes:
        parts: the stages from the image up; the first includes the stem.
        tail: names of the modules between the last stage and the pooling.
        channel_dim: dimension of the channels in a feature map: 1, or 3 for backbones with maps (B, H, W, C).
    """

    parts: tuple[Stage, ...]
    tail: tuple[str, ...]
    channel_dim: int

    def finish(self, backbone: nn.Module, maps: Tensor) -> Tensor:
        """Return features (B, F) from the feature maps of the last stage."""
        features: Tensor = cast(Any, backbone).forward_head(run_modules(backbone, self.tail, maps))
        return features


def run_modules(backbone: nn.Module, names: Sequence[str], inputs: Tensor) -> Tensor:
    """Pass a tensor through modules of a backbone, in sequence."""
    for name in names:
        inputs = backbone.get_submodule(name)(inputs)
    return inputs


def find_stages(backbone: nn.Module, *, size: int) -> Stages:
    """Divide a backbone into stages at the feature maps that timm lists, and test them on an image.

    Args:
        backbone: made by `create_backbone`; left unchanged.
        size: side of an image that it takes, pixels.

    Raises:
        ConfigError: the backbone does not consist of stages in sequence.

    Example:
        >>> stages = find_stages(create_backbone("test_resnet"), size=64)
        >>> [stage.channels for stage in stages.parts]
        [32, 48, 192, 96]
    """
    image = torch.linspace(-1, 1, 3 * size * size, device=next(backbone.parameters()).device).view(1, 3, size, size)
    training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            stages = _divide(backbone, _call_order(backbone, image))
            fits = len(stages.parts) > 1 and _reproduces(backbone, stages, image)
    except Exception:  # modules raise any error on inputs that are not meant for them
        fits = False
    finally:
        backbone.train(training)
    if not fits:
        raise ConfigError(
            f"expected a backbone of stages that run one after the other, found {type(backbone).__name__}; "
            "take a CNN or a Swin, or sharing=hard or none"
        )
    return stages


def _call_order(backbone: nn.Module, image: Tensor) -> list[str]:
    """Return the names of the modules between image and last feature map, in the order of their calls."""
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
    """Return the backbone's children; of a Sequential its members, since a stage may end at any of them."""
    outer = []
    for name, child in backbone.named_children():
        members = child.named_children() if isinstance(child, nn.Sequential) else ()
        outer += [(f"{name}.{member}", module) for member, module in members] or [(name, child)]
    return outer


def _divide(backbone: nn.Module, order: Sequence[str]) -> Stages:
    """Divide the modules in call order; a stage ends at the last feature map of its size that timm lists."""
    feature_info: list[Mapping[str, Any]] = list(cast(Any, backbone).feature_info)
    maps = [entry for entry in feature_info if entry["reduction"] >= FIRST_REDUCTION]
    parts, start = [], 0
    for entry in {entry["reduction"]: entry for entry in maps}.values():
        module = entry["module"]  # one of `order`, or a Sequential that has members there
        end = 1 + max(i for i, name in enumerate(order) if name == module or name.startswith(f"{module}."))
        parts.append(Stage(tuple(order[start:end]), entry["num_chs"]))
        start = end
    channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    return Stages(tuple(parts), tuple(order[start:]), channel_dim=3 if channels_last else 1)


def _reproduces(backbone: nn.Module, stages: Stages, image: Tensor) -> bool:
    """Return True if the stages give the backbone's own features, and maps with the channels that timm lists."""
    maps = image
    for stage in stages.parts:
        maps = run_modules(backbone, stage.modules, maps)
        if maps.ndim != 4 or maps.shape[stages.channel_dim] != stage.channels:
            return False
    found, expected = stages.finish(backbone, maps), backbone(image)
    return found.shape == expected.shape and (image.is_meta or torch.allclose(found, expected))
