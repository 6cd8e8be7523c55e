"""N5: folders of datasets, https://github.com/saalfeldlab/n5."""
