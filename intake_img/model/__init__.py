"""The model of an image: axes, units, the `Image`, unread pixels. It does not access files.

It may import only the errors of the package.
"""
