"""A terminal to print on."""

import os
import re
import sys
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_END = "\x04"  # nothing prints it, and a raw terminal passes it on
STYLE = re.compile(r"\x1b\[[\d;]*m")


class Terminal:
    """What was printed, with styles and without."""

    def __init__(self, controller: int) -> None:
        self._controller = controller

    def styled(self) -> str:
        print(end=_END, flush=True)
        printed = ""
        while not printed.endswith(_END):  # what was printed at once need not arrive at once
            printed += os.read(self._controller, 2**16).decode()
        return printed.removesuffix(_END)

    def plain(self) -> str:
        return STYLE.sub("", self.styled())


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, *, encoding: str = "utf-8", **environment: str) -> Iterator[Terminal]:
    """Make standard output a pseudo-terminal with colors."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **environment}.items():
        monkeypatch.setenv(name, value)
    controller, device = os.openpty()
    tty.setraw(device)  # a line feed stays one
    try:
        with open(device, "w", encoding=encoding) as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            yield Terminal(controller)
    finally:
        os.close(controller)
