"""What the formats in HDF5 share: open files, arrays, attributes, coordinates. No format itself."""
