"""Other frameworks, imported when they are asked for."""
