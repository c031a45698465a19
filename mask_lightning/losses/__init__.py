"""Losses of the tasks, and the weights of their sum."""
