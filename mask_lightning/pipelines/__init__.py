"""One module per command, from settings to files."""
