"""Question to brief."""
