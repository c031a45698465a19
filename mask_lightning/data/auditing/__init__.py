"""What is wrong with a sample table and its photos.

Re-exports nothing: the workers that decode photos import only what they need.
"""
