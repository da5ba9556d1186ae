"""What the plugin's hooks are made of."""

from contextvars import ContextVar
from typing import Any

#: The pytest item that runs in this thread; here because this module is always loaded.
RUNNING: ContextVar[Any] = ContextVar("edge_running_test", default=None)
