"""BigDataViewer."""
