"""`python -m bench report RESULT.json`: the table and the charts. `python -m bench programs FOLDER`: whole programs.
`python -m bench layers`: normalisation, softmax, losses, dropout, embedding and Adam beside PyTorch; `python -m bench
pooling`: pooling and interpolation. `python -m bench conv`, `python -m bench recurrent`: convolutions and recurrent
layers beside PyTorch and ONNX Runtime. `python -m bench models`: whole networks beside PyTorch."""

from __future__ import annotations

import argparse
import pathlib
import sys

from . import convolution, layers, models, pooling, programs, recurrent, report


def main() -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    of_report = commands.add_parser("report", help="a result of `pytest bench` as a table, and as charts")
    of_report.add_argument("result", type=pathlib.Path, help="file of --benchmark-json")
    of_report.add_argument("--charts", type=pathlib.Path, metavar="FOLDER", help="write PNG files there")
    programs.add_arguments(commands.add_parser("programs", help="whole programs and fixed costs, beside PyTorch"))
    layers.add_arguments(commands.add_parser("layers", help="layers with their gradients, beside PyTorch"))
    pooling.add_arguments(commands.add_parser("pooling", help="pooling and interpolation, beside PyTorch"))
    convolution.add_arguments(commands.add_parser("conv", help="convolutions, beside PyTorch and ONNX Runtime"))
    recurrent.add_arguments(commands.add_parser("recurrent", help="recurrent layers, beside PyTorch and ONNX Runtime"))
    models.add_arguments(commands.add_parser("models", help="whole networks, beside PyTorch, and their memory"))
    arguments = parser.parse_args()
    parts = {
        "programs": programs,
        "layers": layers,
        "pooling": pooling,
        "conv": convolution,
        "recurrent": recurrent,
        "models": models,
    }
    if arguments.command in parts:
        return parts[arguments.command].run(arguments)
    result = report.load(arguments.result)
    print(report.table(result))
    if arguments.charts:
        for path in report.charts(result, arguments.charts):
            print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
