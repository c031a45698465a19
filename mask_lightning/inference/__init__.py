"""Predictions of trained models: loading a model, one pass over the photos, and the files it leaves."""
