"""The viewer in notebooks: the portal's viewer, with messages of a widget instead of a server."""

from intake_img.portal.notebook.view import ImageView, view

__all__ = ["ImageView", "view"]
