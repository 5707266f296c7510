"""The command line, called in this process: importing torch anew takes seconds."""

import runpy
import sys

import pytest


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of ``python -m adamp_fused`` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["adamp_fused", *arguments])
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        runpy.run_module("adamp_fused", run_name="__main__")
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0
