"""Problems of a sample table and its photos.

Re-exports nothing, so that the processes that decode photos import only what they need.
"""
