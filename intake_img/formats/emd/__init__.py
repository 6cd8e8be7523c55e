"""EMD, electron microscopy data: of Velox, and of Berkeley."""
