"""Agents that are connected by one command: a file for each says where its configuration lies and what belongs there."""
