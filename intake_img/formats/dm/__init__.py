"""Gatan DigitalMicrograph: DM3 and DM4."""
