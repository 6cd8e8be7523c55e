"""Plates and many positions: the file of each plane of each field of each well.

`plate_table` is the common model; each module named after an instrument makes a table from its index; `plate_images`
makes images from a table; `source` opens them.
"""
