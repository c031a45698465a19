"""Compose a command's options with Hydra, run it, and report errors in one line."""
