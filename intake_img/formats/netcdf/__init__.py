"""NetCDF: classic files (netCDF-3), and those in HDF5 (netCDF-4)."""
