"""Neuroglancer's precomputed volumes, https://github.com/google/neuroglancer, ``src/datasource/precomputed``."""
