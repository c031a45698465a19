"""Option classes: frozen, validated once at the command, and taken by the code as they are.

Imports nothing heavy: a mistake is reported before torch is loaded.
"""
