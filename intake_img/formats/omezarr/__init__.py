"""OME-Zarr and Zarr."""
