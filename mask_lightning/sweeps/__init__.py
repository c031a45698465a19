"""Sweeps (Hydra multiruns): job records, reuse of earlier runs, the table of runs, Optuna studies.

Imports neither torch nor Lightning, because the commands use it before they are loaded.
"""
