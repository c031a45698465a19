"""Losses per task, and their sum."""
