"""The device clock: how long an inference takes on a board, from emulated instructions.

From what was asked for to milliseconds:

- ``counting/`` runs the inference on an emulated board whose QEMU has ``plugin/`` loaded;
  ``trace.py`` reads what that counted;
- ``pipeline.py`` turns blocks of instructions (``instructions.py``) into cycles of the board's core
  (``cores/``), ``steps.py`` reduces a trace to a line for each operator (``operators.py``);
- ``cost.py`` adds memory, threads and fixed costs, with the parameters that ``trust.py`` knows of
  the board; ``estimate.py`` is the answer.

``calibrate/`` fits those parameters to published measurements, and says how far to trust them.
"""
