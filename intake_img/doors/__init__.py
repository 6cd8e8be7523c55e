"""Thin entry points of the package: command line, Intake 2, xarray's engine, the demonstration.

No other folder imports them.
"""
