"""The viewer in notebooks: the portal's own, fed by messages of a widget in place of a server."""

from intake_img.portal.notebook.view import ImageView, view

__all__ = ["ImageView", "view"]
