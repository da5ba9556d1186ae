"""Runs inside the device: standard library and the runtime, nothing else.

``main.py`` supervises: it answers questions about the device, runs programs, and forks one warm
*parent* per runtime layer. A warm parent (``parent.py``) has imported its runtime once and forks
a *worker* for each connection; a worker holds one session, so a crash ends that session alone.
"""
