"""Plates and many positions: which plane of which field of which well is in which file.

`plate_table` is the one model; each module named after an instrument makes a table of its index; `plate_images` makes
images of a table; `source` opens them.
"""
