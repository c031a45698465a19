"""Metrics, intervals, calibration, slices, mistakes and label issues, computed from arrays of predictions."""
