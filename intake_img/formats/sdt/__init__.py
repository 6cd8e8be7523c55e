"""Becker & Hickl SDT."""
