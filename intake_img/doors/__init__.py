"""Thin doors to the package: command line, Intake 2, xarray's engine, the demonstration.

No other room imports them.
"""
