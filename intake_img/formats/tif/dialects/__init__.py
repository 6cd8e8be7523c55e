"""What vendors' dialects of TIFF say of an image."""
