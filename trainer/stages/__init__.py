"""What a training run does with its lessons, one file a stage."""
