"""The command ``fastsim``: train shower generators, generate, evaluate, export.

Exit codes: 0 done, 1 a bug, 2 unusable input (one line says what, where and what to do), 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from cathode.support.errors import UserError
from fastsim.data.gflash.commands import Simulate, run_simulate
from fastsim.deployment.commands import Export, LatencyCommand, run_export, run_latency
from fastsim.generators.commands import Generate, Train, run_generate, run_train
from fastsim.generators.distill.commands import Distill, run_distill
from fastsim.generators.refinement.commands import Refine, run_refine
from fastsim.generators.steps.commands import Steps, run_steps
from fastsim.report.commands import Evaluate, run_evaluate

__all__ = ["main"]

_COMMANDS: dict[str, tuple[type[Any], Callable[[Any], None]]] = {
    "train": (Train, run_train),
    "generate": (Generate, run_generate),
    "evaluate": (Evaluate, run_evaluate),
    "distill": (Distill, run_distill),
    "refine": (Refine, run_refine),
    "steps": (Steps, run_steps),
    "export": (Export, run_export),
    "latency": (LatencyCommand, run_latency),
    "simulate": (Simulate, run_simulate),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in (["--version"], ["-V"]):
        from cathode.support.provenance import versions

        print(versions()["cathode-hep"])
        return 0
    app = tyro.extras.SubcommandApp()
    for name, (kind, _) in _COMMANDS.items():
        app.command(name=name)(kind)
    try:
        command = app.cli(prog="fastsim", description=__doc__, args=words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else (0 if stop.code is None else 2)
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    logging.basicConfig(handlers=[handler], format="%(levelname)s: %(message)s")
    run = next(function for kind, function in _COMMANDS.values() if type(command) is kind)
    try:
        run(command)
    except UserError as error:
        # One line, whatever a library put into its message.
        print("fastsim:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output has gone (fastsim … | head); Python would complain again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("fastsim: interrupted; the same command with --resume continues", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
