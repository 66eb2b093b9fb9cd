"""The house: vocabulary, store, recall, memory model, server."""
