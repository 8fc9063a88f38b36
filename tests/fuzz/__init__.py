"""Feeding everything that reads bytes from outside with bytes that nobody would send.

`chat`, `files`, `rdt` and `redis` have all that is fed, with what must hold whatever comes;
`targets` is the table. `tests.test_fuzz` feeds it for seconds, with plain mutations. This package
as a program does it for hours, guided by coverage, with atheris (the extra ``fuzz``)::

    python -m tests.fuzz --inputs 10000000              # everything, one target after the other
    python -m tests.fuzz --inputs 10000000 line list    # these
    python -m tests.fuzz.one line .fuzz/line/crash-...  # what an input that was found does

What it has learnt stays in ``.fuzz/TARGET``, where the next run takes it up.
"""
