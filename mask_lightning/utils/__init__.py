"""Files, locks, cores, memory and signals: nothing specific to faces."""
