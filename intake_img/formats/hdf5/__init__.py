"""HDF5: plain files, ilastik, Fiji."""
