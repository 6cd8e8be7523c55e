"""Arrays in, arrays out: no axis names, no xarray, no files."""
