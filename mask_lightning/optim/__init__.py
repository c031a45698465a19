"""Optimizers, learning-rate schedules, param groups and the phases of a run."""
