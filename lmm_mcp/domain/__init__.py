"""The nouns that cross a door. Standard library only, frozen, no input or output."""
