"""The wing that learns. It lands with the training work; until then it holds its name."""
