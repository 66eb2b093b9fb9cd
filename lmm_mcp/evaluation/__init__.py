"""Rulers: question suites run through the same code path as the tools."""
