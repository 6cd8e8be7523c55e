"""The formats, one file or folder each, and the registry that chooses among them.

It may import storage and the model. Formats never import each other.
"""
