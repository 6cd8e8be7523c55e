"""What an image is: axes, units, the `Image`, unread pixels. Knows no files.

May import nothing of the package but its errors.
"""
