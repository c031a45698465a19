"""Options of the loss that is minimised: of each task, and of their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mask_lightning.errors import ConfigError
from mask_lightning.settings.base import Settings, Share, refuse_others


class LossSettings(Settings):
    """What becomes of each task's classes, see `losses.classification`, and the weights of the tasks' sum."""

    label_smoothing: Share = 0.0
    logit_adjustment: Annotated[float, Field(ge=0, le=4)] = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    focal_gamma: Annotated[float, Field(ge=0, le=10)] = 0.0
    soft_f1: Annotated[float, Field(ge=0, le=100)] = 0.0
    task_weights: dict[str, Annotated[float, Field(ge=0)]]

    @model_validator(mode="after")
    def _balances_once(self) -> LossSettings:
        options = ("class_weights", "logit_adjustment", "soft_f1")
        balancing = {f"loss.{name}": getattr(self, name) for name in options if getattr(self, name) not in ("none", 0)}
        if len(balancing) > 1:
            (first, value), (second, other) = list(balancing.items())[:2]
            raise ValueError(
                f"expected one of {first} and {second}, found {value} and {other}, which balances the classes twice; "
                f"set {second}=0, or {first}={'none' if value == 'balanced' else 0}"
            )
        return self

    @model_validator(mode="after")
    def _focal_loss_has_one_truth(self) -> LossSettings:
        if self.focal_gamma and self.label_smoothing:
            raise ValueError(
                f"expected one of loss.focal_gamma and loss.label_smoothing, found {self.focal_gamma:g} and "
                f"{self.label_smoothing:g}; the focal loss asks for the probability of one class, set the other to 0"
            )
        return self


class WeightingSettings(Settings):
    """How the tasks' losses are weighed: see `losses.weighting`; options are null where they are not its own."""

    name: Literal["fixed", "uncertainty", "dwa"] = "fixed"
    temperature: Annotated[float, Field(gt=0, le=100)] | None = None

    @model_validator(mode="after")
    def _has_its_own_options(self) -> WeightingSettings:
        refuse_others("weighting", self.name, {"temperature": "dwa"}, self.options)
        return self

    @property
    def options(self) -> dict[str, Any]:
        """As plain values, without what is null."""
        return self.model_dump(exclude_none=True)

    def check(self, tasks: Sequence[str], task_weights: Mapping[str, float]) -> None:
        """Raises ConfigError for one task, or weights that are given beside weights that are found."""
        if self.name == "fixed":
            return
        if len(tasks) == 1:
            raise ConfigError(
                f"weighting={self.name} weighs tasks against each other, found {tasks[0]} alone; "
                "set weighting=fixed, or task=all"
            )
        for task in tasks:
            weight = task_weights.get(task, 1.0)
            if weight != 1:
                raise ConfigError(
                    f"weighting={self.name} finds the weights itself, found loss.task_weights.{task}={weight:g}; "
                    "set that to 1, or weighting=fixed"
                )
