"""Common code of the HDF5-based formats: open files, arrays, attributes, coordinates. Not itself a format."""
