"""WKW, the voxel files of WEBKNOSSOS, https://github.com/scalableminds/webknossos-wrap."""
