"""What several tasks have in common: layers, and the loss that is minimised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mask_lightning.errors import ConfigError
from mask_lightning.settings.checking import Settings


class SharingSettings(Settings):
    """What the tasks' networks have in common: see `models.sharing`; options are null where they are not its own."""

    name: Literal["hard", "cross_stitch", "attention", "none"] = "hard"
    own: Annotated[float, Field(gt=0, le=1)] | None = None
    squeeze: Annotated[int, Field(ge=1, le=64)] | None = None

    @model_validator(mode="after")
    def _has_its_own_options(self) -> SharingSettings:
        _refuse_others("sharing", self.name, {"own": "cross_stitch", "squeeze": "attention"}, self.options)
        return self

    @property
    def options(self) -> dict[str, Any]:
        """As plain values, without what is null."""
        return self.model_dump(exclude_none=True)

    def check(self, tasks: Sequence[str]) -> None:
        """Raises ConfigError for one task that is to have something in common with others."""
        if self.name == "cross_stitch" and len(tasks) == 1:
            raise ConfigError(
                f"sharing=cross_stitch joins the networks of two tasks or more, found {tasks[0]} alone; "
                "set sharing=hard, or task=all"
            )


class WeightingSettings(Settings):
    """How the tasks' losses are weighed: see `losses.weighting`; options are null where they are not its own."""

    name: Literal["fixed", "uncertainty", "dwa"] = "fixed"
    temperature: Annotated[float, Field(gt=0, le=100)] | None = None

    @model_validator(mode="after")
    def _has_its_own_options(self) -> WeightingSettings:
        _refuse_others("weighting", self.name, {"temperature": "dwa"}, self.options)
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


def _refuse_others(group: str, name: str, owners: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Raises ValueError for an option that is another choice's own."""
    for option, owner in owners.items():
        if option in options and name != owner:
            raise ValueError(
                f"{group}.{option} is for {group}={owner}, found {options[option]} beside {group}={name}; remove it"
            )
