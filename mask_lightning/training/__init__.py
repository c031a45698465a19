"""The Lightning module and its metrics."""
