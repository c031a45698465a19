"""Options of the launcher that runs the jobs of a multirun with Ray: `hydra.launcher.*` with `launcher=ray`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mask_lightning.settings.base import Count, Settings


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
