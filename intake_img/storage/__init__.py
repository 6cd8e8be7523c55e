"""Access to bytes: files and URLs, open handles, atomic replacement of targets, temporary space.

It may import the model.
"""
