"""Unit tests of code that nobody has read, with a verdict that the code cannot forge.

The tests run in one sandbox, the *referee*, and the code in another, the *candidate*. Where a test calls the code, the
arguments cross over as plain values and the result comes back as a plain value; what a test then compares are its own
values in its own interpreter. The code never sees the tests, what they expect, or where the verdict goes; it sees the
setup that it may need, so what the tests expect must not stand there (``Suite.hidden`` is for that).

``referee.py``, ``candidate.py`` and ``wire.py`` run inside, on the standard library alone; ``passing.py`` is outside.
"""
