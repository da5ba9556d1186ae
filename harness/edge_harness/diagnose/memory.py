"""Programs that say themselves that no memory was left."""

from __future__ import annotations

import re

from edge_harness.processes import tail

#: The last words of such programs. CPython: the exception's own name; NumPy:
#: numpy/_core/_exceptions.py; libstdc++: vterminate.cc; glibc: strerror(ENOMEM), which Python
#: raises as OSError.
_SIGNS = (
    (r"^(?:\w+\.)*_?ArrayMemoryError\b", "NumPy's MemoryError"),
    (r"^MemoryError\b", "MemoryError"),
    (r"^OSError: \[Errno 12\]", "ENOMEM"),
    (r"\bstd::bad_alloc\b", "std::bad_alloc"),
)
#: What comes after them: the shell's and the emulator's own lines about the end, empty lines.
_LAST_LINES = 6


def memory_sign(said: str) -> str:
    """How a program whose last words were ``said`` told that it got no memory; "" if it did
    not."""
    last = tail(said, _LAST_LINES)
    for pattern, name in _SIGNS:
        if re.search(pattern, last, re.MULTILINE):
            return name
    return ""
