"""Micro-Manager NDTiff."""
