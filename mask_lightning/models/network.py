"""The network: backbones that the tasks share in some way, and a head per task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from mask_lightning.models.backbones import HEADS, LayerGroups
from mask_lightning.models.heads import Head, make_head
from mask_lightning.models.sharing import make_sharing, prefixed
from mask_lightning.settings.model import SharingSettings


class MultiTaskNetwork(nn.Module):
    """Network with one or more backbones and a head per task: images -> {task: outputs of its head}.

    Args:
        backbone: name of a timm classifier.
        num_classes: task -> number of classes.
        sharing: what the tasks share; None is hard sharing.
        image_size: side of the photos, pixels; None is the size the backbone's weights were trained on.
        drop_rate: dropout before each head.
        drop_path_rate: stochastic depth in the backbone, if it has it.
        heads: task -> `name` and options of its head, see `models.heads.make_head`; other tasks have a logit per class.

    Raises:
        ConfigError: the backbone, the sharing or the size do not fit together.

    Example:
        >>> import torch
        >>> network = MultiTaskNetwork("test_resnet", {"mask": 3, "age": 3}).eval()
        >>> network(torch.zeros(2, 3, 64, 64))["age"].shape
        torch.Size([2, 3])
        >>> list(network.layer_groups())
        ['stem', 'block1', 'block2', 'block3', 'block4', 'heads']
    """

    def __init__(
        self,
        backbone: str,
        num_classes: Mapping[str, int],
        *,
        sharing: SharingSettings | None = None,
        image_size: int | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        heads: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.sharing = make_sharing(
            tuple(num_classes), backbone, sharing, image_size=image_size, drop_path_rate=drop_path_rate
        )
        features = self.sharing.num_features
        options = heads or {}
        self.heads = nn.ModuleDict(
            {
                task: make_head(features, count, drop_rate=drop_rate, **options.get(task, {}))
                for task, count in num_classes.items()
            }
        )
        self.register_load_state_dict_pre_hook(_rename_backbone)  # type: ignore[no-untyped-call]  # torch's

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs (B, K) of each task's head from normalized images (B, 3, H, W)."""
        features = self.sharing(images)
        return {task: head(features[task]) for task, head in self.heads.items()}

    def head(self, task: str) -> Head:
        """Return the head of a task."""
        return cast(Head, self.heads[task])

    def log_probs(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return log probabilities (B, C), float32, per task from the outputs of the heads; preds are their argmax."""
        return {task: self.head(task).log_probs(values) for task, values in outputs.items()}

    def layer_groups(self) -> LayerGroups:
        """Return the backbones' layer groups from the image up, then `heads`; each parameter is in one of them."""
        groups = {group: prefixed(named, "sharing") for group, named in self.sharing.layer_groups().items()}
        new_layers = groups.pop(HEADS, {})
        return {**groups, HEADS: new_layers | prefixed(dict(self.heads.named_parameters()), "heads")}

    def no_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, in addition to biases and norms."""
        return {f"sharing.{name}" for name in self.sharing.no_decay()}


def _rename_backbone(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: Any) -> None:
    """Rename the backbone of the first checkpoints of 0.1, which had no choice of sharing."""
    for name in [name for name in state if name.startswith(f"{prefix}backbone.")]:
        state[f"{prefix}sharing.{name.removeprefix(prefix)}"] = state.pop(name)
