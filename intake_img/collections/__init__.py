"""Images of many files: names and coordinates, listings, partitions, sequences.

It may import formats and everything that formats may import.
"""
