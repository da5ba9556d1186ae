"""Why something on a device ended: signal, instruction, missing feature, memory, page size; or why
a model was refused. Knows nothing of engines and devices: what it needs of them is handed in."""

from edge_harness.diagnose.device_files import DeviceFiles
from edge_harness.diagnose.explain import Diagnosis, explain_death
from edge_harness.diagnose.explain_end import Explainer
from edge_harness.diagnose.load_errors import FailedLoad

__all__ = ["DeviceFiles", "Diagnosis", "Explainer", "FailedLoad", "explain_death"]
