"""What a task predicts with."""

from __future__ import annotations

from torch import Tensor, nn


class ClassHead(nn.Module):
    """Features (B, F) -> logits (B, C): dropout and one linear layer."""

    def __init__(self, num_features: int, num_classes: int, *, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop_rate)
        self.linear = nn.Linear(num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) -> logits (B, C), unnormalised."""
        logits: Tensor = self.linear(self.drop(features))
        return logits
