"""Fusion of convolutions with the BatchNorm behind them, which makes a trained network faster."""

from __future__ import annotations

import copy

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mask_lightning.models.sharing import HardSharing, NoSharing, Sharing


def fuse_norms(backbone: nn.Module, size: int) -> nn.Module:
    """Return a copy of a backbone in eval mode whose BatchNorms are part of the convolutions before them.

    The features are the same up to rounding; this is tested on an image. A backbone that torch.fx cannot trace, or that
    computes something else afterwards, is returned as it is.

    Source: Markuš 2018, "Fusing batch normalization and convolution in runtime"; PyTorch's tutorial "Building a
    convolution/batch norm fuser in FX".

    Args:
        backbone: images (B, 3, H, W) -> features (B, F); left unchanged, in eval mode.
        size: side of an image that it takes, pixels.

    Example:
        >>> from mask_lightning.models.backbones import create_backbone
        >>> backbone = create_backbone("test_resnet").eval()
        >>> fused = fuse_norms(backbone, 64)
        >>> sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
        0
    """
    device = next(backbone.parameters()).device
    image = torch.linspace(-1, 1, 3 * size * size, device=device).view(1, 3, size, size)
    try:
        with torch.no_grad():
            fused = _fuse(copy.deepcopy(backbone))
            same = torch.allclose(fused(image), backbone(image), rtol=1e-3, atol=1e-3)
    except Exception:  # torch.fx raises any error for control flow that it cannot trace
        return backbone
    return fused if same else backbone


def fused_sharing(sharing: Sharing, size: int) -> Sharing:
    """Return a copy of a sharing in eval mode whose whole backbones are fused by `fuse_norms`.

    Cross-stitch units and attention use parts of the backbones, which stay as they are.

    Args:
        sharing: images -> {task: features}; left unchanged.
        size: side of the images, pixels.
    """
    copied = copy.deepcopy(sharing).eval()
    if type(copied) is HardSharing:
        copied.backbone = fuse_norms(copied.backbone, size)
    elif type(copied) is NoSharing:
        for task, trunk in copied.trunks.items():
            copied.trunks[task] = fuse_norms(trunk, size)
    return copied.to(memory_format=torch.channels_last)


class _Tracer(fx.Tracer):
    """Tracer that keeps timm's convolutions and its BatchNorm with activation as modules."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, BatchNormAct2d | nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)


def _fuse(backbone: nn.Module) -> nn.Module:
    modules = dict(backbone.named_modules())
    graph = _Tracer().trace(backbone)
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(norm := modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        if before.op != "call_module" or len(before.users) > 1 or not isinstance(modules[before.target], nn.Conv2d):
            continue
        conv = modules[before.target]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        rest = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
        parent, _, name = str(node.target).rpartition(".")
        setattr(backbone.get_submodule(parent), name, rest)
    return fx.GraphModule(backbone, graph)
