"""The switch of the tape, each thread's own: `no_grad`, `enable_grad`, `set_grad_enabled`."""

from __future__ import annotations

import threading
from typing import Any


class _Mode(threading.local):
    recording = True


tape = _Mode()  # recording: is the tape running?


def is_grad_enabled() -> bool:
    """Whether operators record for gradients in this thread."""
    return tape.recording


class set_grad_enabled:
    """Switch the tape on or off, at once and, as a context manager, until the block ends."""

    def __init__(self, mode: bool) -> None:
        self.previous = tape.recording
        tape.recording = bool(mode)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        tape.recording = self.previous


class _Switch:
    """A context manager, reentrant, and a decorator of functions."""

    recording = False

    def __init__(self) -> None:
        self.previous: list[bool] = []

    def __enter__(self) -> None:
        self.previous.append(tape.recording)
        tape.recording = self.recording

    def __exit__(self, *exc: object) -> None:
        tape.recording = self.previous.pop()

    def __call__(self, function: Any) -> Any:
        switch = type(self)

        def switched(*args: Any, **kwargs: Any) -> Any:
            with switch():
                return function(*args, **kwargs)

        switched.__name__ = getattr(function, "__name__", "switched")
        switched.__doc__ = function.__doc__
        switched.__wrapped__ = function  # type: ignore[attr-defined]
        return switched


class no_grad(_Switch):
    """Context manager or decorator in which nothing is recorded for gradients."""


class enable_grad(_Switch):
    """Context manager or decorator in which recording is on, inside `no_grad` too."""

    recording = True
