"""Face detection and alignment; needs the extra `faces`."""
