"""A mapping for a file of unknown make, guessed from its names and its values, each guess with its reason."""
