"""Flat binary files: the bytes of pixels, with a description beside them."""
