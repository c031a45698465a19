"""Plugin for Hydra, which finds plugins in the namespace package `hydra_plugins` only."""

from mask_lightning.sweeps import ray_jobs


class RayLauncher(ray_jobs.RayLauncher):
    """Run the jobs of a multirun with Ray; see `mask_lightning.sweeps.ray_jobs`."""
