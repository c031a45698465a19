"""Draw masks on photos of faces and write them in the competition's layout."""
