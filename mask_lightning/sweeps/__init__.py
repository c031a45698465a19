"""What a multirun leaves: a record per job, the table of its runs, skipping what is done.

Imports neither torch nor Lightning, so that the doors may use it.
"""
