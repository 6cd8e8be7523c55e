"""Metadata from vendors' dialects of TIFF."""
