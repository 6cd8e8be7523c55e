"""Where bytes live: files and URLs, open handles, replacement of targets, temporary space.

May import the model.
"""
