"""Readers and datatypes of Intake 2."""
