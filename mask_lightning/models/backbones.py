"""timm backbones and their layer groups, in order from the image up."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import timm
import torch
from timm.models import PretrainedCfg, group_parameters
from torch import nn

from mask_lightning.errors import ConfigError, did_you_mean

LayerGroups = dict[str, dict[str, nn.Parameter]]  # group name -> parameter name -> parameter

HEADS = "heads"  # the last layer group


class InputSpec(NamedTuple):
    """What pretrained weights expect of a photo: size of the square, mean and std per channel of values in 0..1."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def check_backbone(name: str) -> None:
    """Raises ConfigError, with the nearest names, if timm has no model of that name, or no such weights of it."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(name):
        known = timm.list_models()
    elif tag and name not in timm.list_pretrained():
        known = [architecture, *timm.list_pretrained(f"{architecture}.*")]
    else:
        return
    raise ConfigError(f"timm {timm.__version__} has no model {name!r}; {did_you_mean(name, known)}")


def input_spec(name: str) -> InputSpec:
    """The input that timm's default weights of a backbone were trained on."""
    check_backbone(name)
    config = timm.get_pretrained_cfg(name) or PretrainedCfg()  # of timm's few models without weights
    return InputSpec(config.input_size[-1], tuple(config.mean), tuple(config.std))


def takes_any_size(name: str) -> bool:
    """Whether a backbone takes photos of any size; others (transformers that learn positions) are built for one."""
    config = timm.get_pretrained_cfg(name)
    return config is None or not config.fixed_input_size


def size_options(name: str, image_size: int | None) -> dict[str, Any]:
    """What timm has to be told, so that a backbone takes square photos of `image_size`; None: of its own size."""
    if image_size is None or takes_any_size(name) or image_size == input_spec(name).size:
        return {}
    return {"img_size": image_size}


def create_backbone(name: str, *, image_size: int | None = None, drop_path_rate: float = 0.0) -> nn.Module:
    """An untrained backbone: image (B, 3, H, W) -> features (B, F), F = its `num_features` after pooling.

    Args:
        name: timm's.
        image_size: H = W of the photos, None: what its weights were trained on; most take any.
        drop_path_rate: stochastic depth, where it knows that.

    Raises:
        ConfigError: no such model, or it takes no classifier off, or not this size.
    """
    check_backbone(name)
    options: dict[str, Any] = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
    sized = size_options(name, image_size)
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **options, **sized)
        if image_size is not None and sized:
            _try(backbone, image_size)  # some take the option and fail with the first photo
    except (TypeError, RuntimeError, ValueError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error}"
        if sized:
            raise ConfigError(
                f"{name} is made for photos of {input_spec(name).size} pixels and cannot be built for {image_size} "
                f"({reason}); set model.image_size to its own"
            ) from error
        raise ConfigError(f"expected a timm classifier, {name} cannot be built without its head ({reason})") from error
    return backbone


def _try(backbone: nn.Module, size: int) -> None:
    with torch.no_grad():
        backbone.eval()(torch.zeros(1, 3, size, size, device=next(backbone.parameters()).device))
    backbone.train()


def count_features(backbone: nn.Module) -> int:
    """F of a backbone's features (B, F): some put a layer behind the trunk, which `num_features` leaves out."""
    model = cast(Any, backbone)
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def backbone_groups(backbone: nn.Module) -> LayerGroups:
    """`stem`, `block1`, ..., by timm's own grouping; a block is one feature block (resnet34 has 16).

    Every parameter is in exactly one group; what follows the last block (a final norm) is a group of its own or,
    where timm says so, part of the last block.
    """
    parameters = dict(backbone.named_parameters())
    matcher = cast(Any, backbone).group_matcher(coarse=False)
    grouped = group_parameters(backbone, matcher)
    return {
        f"block{i}" if i else "stem": {name: parameters[name] for name in names} for i, names in sorted(grouped.items())
    }


def count_parameters(model: nn.Module) -> int:
    """Numbers that a network learns, or has learned."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, size: int) -> int:
    """Floating-point operations of one photo's forward pass (a multiply-add counts as two), by torch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device
    training = model.training
    model.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.zeros(1, 3, size, size, device=device))
    model.train(training)
    return int(counter.get_total_flops())
