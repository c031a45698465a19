"""Standalone models: one graph from pixels to probabilities, its files, and the runtimes that execute it."""
