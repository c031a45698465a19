"""From a folder on disk to batches."""
