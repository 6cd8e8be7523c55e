"""Other frameworks, a module each, imported when they are asked for; `accessor` and what is above may use them."""
