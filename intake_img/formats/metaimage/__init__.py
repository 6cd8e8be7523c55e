"""MetaImage, the format of ITK."""
