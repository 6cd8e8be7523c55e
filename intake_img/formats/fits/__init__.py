"""FITS, the format of astronomy."""
