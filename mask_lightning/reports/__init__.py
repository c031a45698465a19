"""Figures, HTML pages and terminal tables of numbers that are computed elsewhere."""
