"""Image -> {task: logits}."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mask_lightning.models.backbones import LayerGroups, backbone_groups, count_features, create_backbone
from mask_lightning.models.heads import ClassHead

HEADS = "heads"  # the last layer group


class MultiTaskNetwork(nn.Module):
    """Hard parameter sharing (Caruana 1997): one backbone for all tasks, one head per task.

    Args:
        backbone: name of a timm classifier.
        num_classes: task -> how many classes.
        drop_rate: dropout in front of each head.
        drop_path_rate: stochastic depth in the backbone, where it knows that.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: Mapping[str, int],
        *,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = create_backbone(backbone, drop_path_rate=drop_path_rate)
        features = count_features(self.backbone)
        self.heads = nn.ModuleDict(
            {task: ClassHead(features, count, drop_rate=drop_rate) for task, count in num_classes.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W), normalised -> task -> logits (B, C)."""
        features = self.backbone(images)
        return {task: head(features) for task, head in self.heads.items()}

    def layer_groups(self) -> LayerGroups:
        """The backbone's groups from the image up, then `heads`; each parameter once, under its name in here."""
        groups = {
            group: {f"backbone.{name}": parameter for name, parameter in parameters.items()}
            for group, parameters in backbone_groups(self.backbone).items()
        }
        groups[HEADS] = {f"heads.{name}": parameter for name, parameter in self.heads.named_parameters()}
        return groups
