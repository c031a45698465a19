"""What a run shows: figures and tables."""
