"""Data sets as sources of parts: what a recipe trains and is measured on."""
