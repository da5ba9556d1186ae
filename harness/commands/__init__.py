"""Bodies of the larger commands of ``edge-harness``."""
