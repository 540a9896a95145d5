"""What the command is called: in a checkout ``python -m recipes``, installed ``snn-delay-recipes``."""

PROGRAM = "python -m recipes" if __name__.startswith("recipes.") else "snn-delay-recipes"
