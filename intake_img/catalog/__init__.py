"""Catalogs: made by scanning a folder, written as YAML, and opened safely, even if they are not trusted."""

from intake_img.catalog.entries import Entry, SafeCatalog
from intake_img.catalog.safe import open_catalog, validate
from intake_img.catalog.scan import Scan, scan
from intake_img.catalog.schema import Problem
from intake_img.catalog.table import ImageTable, open_table, write_table
from intake_img.catalog.write import write_catalog

__all__ = [
    "Entry",
    "ImageTable",
    "Problem",
    "SafeCatalog",
    "Scan",
    "open_catalog",
    "open_table",
    "scan",
    "validate",
    "write_catalog",
    "write_table",
]
