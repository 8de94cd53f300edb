"""Pictures and recipes, read from files and written to them."""
