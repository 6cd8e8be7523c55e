"""Raw files of cameras."""

from intake_img.formats.cameraraw.driver import CameraRaw, CameraRawSource

__all__ = ["CameraRaw", "CameraRawSource"]
