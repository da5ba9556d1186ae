"""Bodies of the larger commands of ``edge-harness``; ``cli.py`` is the door."""
