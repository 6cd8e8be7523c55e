"""NRRD, nearly raw raster data."""
