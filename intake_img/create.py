"""Datasets from arrays, lists, random numbers and folders: the loaders that thunder's users know, all of them lazy."""
