"""The web portal: a catalog of images as pages to look at, and as OME-Zarr to load; read-only.

`command` starts it, `app` knows the routes. Installed with ``pip install "intake_img[portal]"``.
"""
