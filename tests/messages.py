"""What errors say."""

from collections.abc import Callable
from typing import Any


def message(call: Callable[[], Any]) -> str:
    """The kind of an error and its text, or nothing where there is none."""
    try:
        call()
    except (TypeError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""
