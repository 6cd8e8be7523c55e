"""Numerical kernels: functions of arrays, without axis names, xarray and files."""
