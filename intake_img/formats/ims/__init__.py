"""Imaris."""
