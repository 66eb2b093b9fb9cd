"""The memory model at work: choosing, writing, checking. Torch is imported in its child process only (`child.py`, `network.py`)."""
