"""The folder of one run and the record of its photos."""
