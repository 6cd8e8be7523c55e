"""Plates and many positions: which plane of which field of which well is in which file.

`table` is the one model; each module named after an instrument makes a table of its index; `images` makes images of a
table; `source` opens them.
"""
