"""Plugin for Hydra, which finds plugins in the namespace package `hydra_plugins` only."""

from mask_lightning.sweeps import search


class OptunaSweeper(search.OptunaSweeper):
    """Choose the values of a multirun with Optuna; see `mask_lightning.sweeps.search`."""
