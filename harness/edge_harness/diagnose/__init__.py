"""Why a process on a device crashed: instruction, library, missing feature, which board has it."""

from edge_harness.diagnose.explain import Diagnosis, explain_death

__all__ = ["Diagnosis", "explain_death"]
