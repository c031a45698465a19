"""Metric names and scores, computed from arrays of targets and predictions."""
