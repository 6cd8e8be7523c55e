"""Other frameworks, one module each, imported on use; `accessor` and higher layers may use them."""
