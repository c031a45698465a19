"""Options of the training loss: the loss of each task, and the weights of the tasks' sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.labels import AGE, FACE, GENDER
from mask_lightning.settings.base import Settings, Share, refuse_others

ORDINAL_LOSS_OPTIONS = ("logit_adjustment", "class_weights")
"""Options that `losses.ages.OrdinalLoss` has too; all others need a logit per class."""


OF_A_PERSON = (GENDER.name, AGE.name)
"""Tasks whose label all photos of a person share."""


class LossSettings(Settings):
    """Loss of each task's classes (`losses.classification`), and the weights of the tasks.

    Three options balance rare classes: class_weights, logit_adjustment and soft_f1; use at most one of them.
    """

    label_smoothing: Annotated[Share, Field(description="share of the target that is spread over all classes")] = 0.0
    logit_adjustment: Annotated[
        float, Field(ge=0, le=4, description="factor tau of logit adjustment; 1 balances the classes, 0 turns it off")
    ] = 0.0
    class_weights: Annotated[
        Literal["none", "balanced"],
        Field(description="balanced weights each photo's loss by the inverse frequency of its class"),
    ] = "none"
    focal_gamma: Annotated[
        float, Field(ge=0, le=10, description="gamma of the focal loss, 2 in the paper; 0 turns it off")
    ] = 0.0
    soft_f1: Annotated[
        float, Field(ge=0, le=100, description="weight of 1 - soft macro F1 of the batch; 0 turns it off")
    ] = 0.0
    distill_weight: Annotated[
        float, Field(gt=0, le=1, description="share of the loss of labelled photos that the teachers of distill give")
    ] = 0.5
    distill_temperature: Annotated[
        float, Field(ge=1, le=20, description="temperature of the teachers' probabilities; larger is softer")
    ] = 2.0
    consistency: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            description="weight of the symmetric KL divergence of two photos of a person; needs data.two_per_person",
        ),
    ] = 0.0
    consistency_tasks: Annotated[
        list[str] | None,
        Field(min_length=1, description="tasks of that loss, on which photos of a person agree; null: gender and age"),
    ] = None
    task_weights: Annotated[
        dict[str, Annotated[float, Field(ge=0)]],
        Field(description="task: weight of its loss in the sum, 1 if left out; +loss.task_weights.smile=2 adds one"),
    ] = dict.fromkeys(FACE.names, 1.0)

    @model_validator(mode="after")
    def _check_balancing(self) -> LossSettings:
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
    def _check_consistency(self) -> LossSettings:
        if self.consistency_tasks and not self.consistency:
            raise ValueError(
                f"loss.consistency_tasks={self.consistency_tasks} is for loss.consistency, found 0; set that to 1"
            )
        return self

    def find_consistency_tasks(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Return those of the tasks that have the consistency loss; () without one.

        Raises:
            ConfigError: a name is none of the tasks, or none is left.
        """
        if not self.consistency:
            return ()
        for name in self.consistency_tasks or ():
            if name not in tasks:
                raise ConfigError(
                    f"loss.consistency_tasks names {name!r}, no task of this run; {did_you_mean(name, tasks)}"
                )
        chosen = tuple(task for task in tasks if task in (self.consistency_tasks or OF_A_PERSON))
        if not chosen:
            raise ConfigError(
                f"loss.consistency is for tasks on which all photos of a person agree, found {', '.join(tasks)}; "
                "name some in loss.consistency_tasks, or set loss.consistency=0"
            )
        return chosen

    @model_validator(mode="after")
    def _check_focal(self) -> LossSettings:
        if self.focal_gamma and self.label_smoothing:
            raise ValueError(
                f"expected one of loss.focal_gamma and loss.label_smoothing, found {self.focal_gamma:g} and "
                f"{self.label_smoothing:g}; the focal loss needs the probability of a single class, set the other to 0"
            )
        return self


class WeightingSettings(Settings):
    """Method that weights the tasks' losses against each other (`losses.weighting`)."""

    by_choice: ClassVar[bool] = True

    name: Annotated[
        Literal["fixed", "uncertainty", "dwa"],
        Field(description="fixed: loss.task_weights; uncertainty: learned; dwa: by how fast each loss falls"),
    ] = "fixed"
    temperature: Annotated[
        float | None, Field(gt=0, le=100, description="of dwa only, 2 in the paper; larger makes weights more equal")
    ] = None

    @model_validator(mode="after")
    def _check_own_options(self) -> WeightingSettings:
        refuse_others("weighting", self.name, {"temperature": "dwa"}, self.options)
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The name and the options that are set, as plain values."""
        return self.model_dump(exclude_none=True)

    def check(self, tasks: Sequence[str], task_weights: Mapping[str, float]) -> None:
        """Refuse weightings that cannot work for the tasks of a run.

        Raises:
            ConfigError: there is one task only, or task_weights are set although the weights are not fixed.
        """
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
