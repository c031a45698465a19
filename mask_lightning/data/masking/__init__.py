"""Draws masks on photos of faces and turns a face set into the competition's layout."""
