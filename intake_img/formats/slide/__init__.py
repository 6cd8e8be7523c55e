"""Whole slides through OpenSlide."""
