"""Olympus FluoView OIF and OIB."""
