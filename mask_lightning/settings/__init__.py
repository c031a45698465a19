"""What Hydra composed, checked: one module per door.

Imports nothing heavy: a mistake is told before torch is loaded.
"""
