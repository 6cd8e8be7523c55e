"""TIFF and its dialects."""
