"""Everything that touches Lightning's Trainer: modules, trainer, processes, determinism and checkpoint files."""
