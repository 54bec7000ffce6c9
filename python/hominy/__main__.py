"""`hominy info` says what this installation can do and why; `hominy demo` shows it."""

from __future__ import annotations

import argparse
import os
import platform
import sys

_WHY_PURE = (
    "pip install --force-reinstall --no-deps --no-binary hominy -v hominy  "
    "(in a checkout: HOMINY_REQUIRE_NATIVE=1 pip install -v .)"
)


def _bytes(count: float) -> str:
    for unit, digits in (("B", 0), ("KiB", 0), ("MiB", 1)):
        if count < 1024:
            return f"{count:.{digits}f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _installed_bytes() -> int:
    folder = os.path.dirname(os.path.abspath(__file__))
    return sum(
        os.path.getsize(os.path.join(root, name))
        for root, _, names in os.walk(folder)
        for name in names
        if "__pycache__" not in root
    )


def _info_rows() -> list[tuple[str, str]]:
    import numpy as np

    import hominy
    from hominy import autograd, backends, memory

    compiled = not (autograd.__file__ or "").endswith(".py")
    rows = [
        ("version", f"hominy {hominy.__version__}, Python {platform.python_version()}, NumPy {np.__version__}"),
        ("platform", f"{platform.system()} {platform.machine()}"),
        ("installed", f"{_bytes(_installed_bytes())} in {os.path.dirname(hominy.__file__)}"),
    ]
    refusal = backends.available("native")
    if refusal:
        rows += [
            ("build", f"pure Python: {refusal}"),
            ("", "the kernels were not compiled; this command shows why:"),
            ("", _WHY_PURE),
        ]
    else:
        from hominy import _native

        levels = _native.isa_levels()
        forced = " (HOMINY_ISA)" if os.environ.get("HOMINY_ISA") else ""
        refused = [name for name, runs in levels.items() if not runs]
        rows += [
            ("build", f"compiled kernels, C interface version {_native.abi_version}"),
            ("", "compiled tape" if compiled else "tape in plain Python (Cython was absent or failed)"),
            ("ISA level", _native.isa() + forced),
            (
                "",
                "also built in: " + ", ".join(name for name, runs in levels.items() if runs and name != _native.isa()),
            ),
            ("", "not on this machine or not in this build: " + (", ".join(refused) or "none")),
            ("threads", f"{_native.num_threads()}: {_native.num_threads_reason()}"),
        ]
    for name in backends.NAMES:
        chosen = "chosen" if name == backends.current_backend() else "available"
        rows.append(("backends" if name == backends.NAMES[0] else "", f"{name}: {backends.available(name) or chosen}"))
    pool = memory.statistics()
    if pool:
        rows.append(
            (
                "memory pool",
                f"{_bytes(pool['in_use_bytes'])} in use, {_bytes(pool['free_bytes'])} free, "
                f"at most {_bytes(pool['bound_bytes'])} kept free",
            )
        )
    return rows


def info() -> str:
    """The table that `hominy info` prints."""
    return "\n".join(f"{label:<12} {value}".rstrip() for label, value in _info_rows())


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the `hominy` command; the exit status."""
    parser = argparse.ArgumentParser(prog="hominy", description="Deep-learning kernels for NumPy people.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="what this installation can do, and why")
    commands.add_parser(
        "demo", help="train on real digits, verify and time the kernels, draw a picture", add_help=False
    )
    parsed, rest = parser.parse_known_args(arguments)
    try:
        status = 0
        if parsed.command == "info":
            print(info())
        else:
            from .demo import main as demo

            status = demo(rest)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, `head` say, has seen enough: what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
