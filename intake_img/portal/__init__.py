"""The web portal: a catalog of images as web pages, and as OME-Zarr for loading; read-only.

`command` starts it, `app` has the routes. Install it with ``pip install "intake_img[portal]"``.
"""
