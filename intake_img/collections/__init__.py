"""Many files, one image: names and coordinates, listings, partitions, sequences.

May import formats and what they may import.
"""
