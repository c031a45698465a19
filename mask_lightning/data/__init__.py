"""Labelled photos on disk, their splits, and batches for training."""
