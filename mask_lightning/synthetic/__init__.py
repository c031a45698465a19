"""Draw portraits, the built-in default data, and masks on photos of faces."""
