"""Image -> {task: outputs}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.models.attention import AttentionSharing
from mask_lightning.models.backbones import HEADS, LayerGroups
from mask_lightning.models.cross_stitch import CrossStitchSharing
from mask_lightning.models.heads import Head, make_head
from mask_lightning.models.sharing import HardSharing, NoSharing, Sharing, prefixed

SHARING: dict[str, type[HardSharing | NoSharing | CrossStitchSharing | AttentionSharing]] = {
    "hard": HardSharing,
    "cross_stitch": CrossStitchSharing,
    "attention": AttentionSharing,
    "none": NoSharing,
}


class MultiTaskNetwork(nn.Module):
    """One or more backbones that the tasks share in some way, and a head per task.

    Args:
        backbone: name of a timm classifier.
        num_classes: task -> how many classes.
        sharing: `name`, one of SHARING, and its options; None: hard.
        image_size: side of the photos, None: what the backbone's weights were trained on; most take any.
        drop_rate: dropout in front of each head.
        drop_path_rate: stochastic depth in the backbone, where it knows that.
        heads: task -> `name` and options of its head, as of `models.heads.make_head`; of other tasks: classes.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: Mapping[str, int],
        *,
        sharing: Mapping[str, Any] | None = None,
        image_size: int | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        heads: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"image_size": image_size, "drop_path_rate": drop_path_rate}
        self.sharing = make_sharing(tuple(num_classes), backbone, **(sharing or {}), **options)
        features = self.sharing.num_features
        chosen = heads or {}
        self.heads = nn.ModuleDict(
            {
                task: make_head(features, count, drop_rate=drop_rate, **chosen.get(task, {}))
                for task, count in num_classes.items()
            }
        )
        self.register_load_state_dict_pre_hook(_rename_backbone)  # type: ignore[no-untyped-call]  # torch's

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W), normalised -> task -> outputs (B, K) of its head."""
        features = self.sharing(images)
        return {task: head(features[task]) for task, head in self.heads.items()}

    def head(self, task: str) -> Head:
        """What the task predicts with."""
        return cast(Head, self.heads[task])

    def log_probs(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs per task -> log probabilities (B, C), float32; the prediction is their argmax."""
        return {task: self.head(task).log_probs(values) for task, values in outputs.items()}

    def layer_groups(self) -> LayerGroups:
        """The backbones' groups from the image up, then `heads`; each parameter once, under its name in here."""
        groups = {group: prefixed(named, "sharing") for group, named in self.sharing.layer_groups().items()}
        new = groups.pop(HEADS, {})
        return {**groups, HEADS: new | prefixed(dict(self.heads.named_parameters()), "heads")}

    def no_decay(self) -> set[str]:
        """Names of parameters that are not to be decayed, beside biases and norms."""
        return {f"sharing.{name}" for name in self.sharing.no_decay()}


def make_sharing(tasks: Sequence[str], backbone: str, *, name: str = "hard", **options: Any) -> Sharing:
    """The sharing of that name, one of SHARING; `options` are its own and those of `create_backbone`.

    Raises:
        ConfigError: unknown name, or tasks or a backbone that it cannot work with.
    """
    if name not in SHARING:
        raise ConfigError(f"no sharing {name!r}; {did_you_mean(name, SHARING)}")
    sharing: Sharing = SHARING[name](tasks, backbone, **options)
    return sharing


def _rename_backbone(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: Any) -> None:
    """Checkpoints of version 0.1 know hard sharing alone, and its backbone by another name."""
    for name in [name for name in state if name.startswith(f"{prefix}backbone.")]:
        state[f"{prefix}sharing.{name.removeprefix(prefix)}"] = state.pop(name)
