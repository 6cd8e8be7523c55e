"""One file or folder a format, and the registry that chooses among them.

May import storage and the model. Formats never import each other.
"""
