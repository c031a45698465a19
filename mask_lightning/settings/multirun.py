"""Options of multiruns: `hydra.sweeper.*` with `sweeper=optuna`, `hydra.launcher.*` with `launcher=ray`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mask_lightning.settings.base import Count, Positive, Seed, Settings


class SearchSettings(Settings):
    """Search with Optuna (Akiba et al. 2019, "Optuna: a next-generation hyperparameter optimization framework")."""

    storage: str = Field(
        description="journal file, or URL of a database (mysql://...); processes that share it share the study",
        json_schema_extra={"composed": "${outputs}/studies.journal"},
    )
    study_name: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = Field(
        None, description="name of the study in the storage; null: derived from the overrides"
    )
    n_trials: Positive = Field(
        20, description="finished and pruned trials of the study, including those of earlier starts"
    )
    n_jobs: Positive = Field(1, description="trials that the launcher gets at once: its number of parallel jobs")
    sampler: Literal["tpe", "random"] = Field(
        "tpe", description="tpe: tree-structured Parzen estimator (Bergstra et al. 2011); random: independent values"
    )
    seed: Seed | None = Field(
        None, description="seed of the sampler; a fixed one repeats the first values at each start"
    )
    pruner: Literal["asha", "hyperband", "none"] = Field(
        "asha",
        description="end poor trials early: asha (successive halving, Li et al. 2020) or hyperband (Li et al. 2018)",
    )
    min_epochs: Positive = Field(1, description="epochs before a trial can be pruned")
    reduction_factor: Annotated[int, Field(ge=2)] = Field(
        3, description="one of this many trials continues at each rung, and rungs are this factor of epochs apart"
    )
    params: dict[str, Any] | None = Field(None, description="swept options, as in Hydra's own sweeper")
    trial: int | None = Field(None, description="id of the job's trial in the storage; set by the sweeper")


class RaySettings(Settings):
    """Jobs of a multirun as tasks of Ray (Moritz et al. 2018, "Ray: a distributed framework for emerging AI")."""

    address: str | None = Field(
        None, description="null: start Ray on this machine; auto or HOST:PORT: connect to a running cluster"
    )
    num_cpus: Annotated[float, Field(gt=0)] = Field(
        1, description="cores and threads per job; the number of parallel jobs follows from it"
    )
    num_gpus: Annotated[float, Field(ge=0)] = Field(0, description="GPUs per job; 0.5: two jobs share one")
    max_retries: Count = Field(10, description="how often a job is repeated after its machine or process has died")
