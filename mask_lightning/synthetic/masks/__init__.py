"""Draw masks on photos of faces."""
