"""One file a format, reading and writing side by side. Drivers never import each other."""
