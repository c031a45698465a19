"""Lightning modules, the trainer of a run, processes, determinism and checkpoint files."""
