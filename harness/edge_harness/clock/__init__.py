"""The device clock: how long an inference takes on a board, from emulated instructions.

``plugin/`` counts what runs, ``trace.py`` reads the counts, ``pipeline.py`` turns blocks of
instructions into cycles of the board's core, ``model.py`` adds memory, threads and fixed costs,
``calibrate.py`` fits what is free to published measurements and says how far to trust the result.
"""

from __future__ import annotations
