"""Draw portraits (the default data) and masks on photos of faces (the command `mask_faces`)."""
