"""Peak memory of a search in a features file of a million events, all processes together.

The file is made from the shipped sample: rows drawn with replacement, turned by a random azimuth.  Memory does not
depend on the number of ensemble members, so few are trained.

    python tests/benchmarks/bench_memory.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from cathode.data.features import LHCO_COLUMNS
from cathode.data.lhco import write_lhco_features
from cathode.data.readers import open_table
from cathode.data.samples import resolve_sample


def make_file(path: Path, events: int) -> None:
    table = open_table(resolve_sample("sample:lhco_background"))
    chunks = list(table.chunks(list(LHCO_COLUMNS)))
    frame = pd.DataFrame({name: np.concatenate([c[name] for c in chunks]) for name in LHCO_COLUMNS})
    random = np.random.default_rng(1)
    frame = frame.iloc[random.integers(len(frame), size=events)].reset_index(drop=True)
    angle = random.uniform(0, 2 * np.pi, events)
    for jet in ("j1", "j2"):
        x, y = frame[f"px{jet}"].copy(), frame[f"py{jet}"].copy()
        frame[f"px{jet}"] = x * np.cos(angle) - y * np.sin(angle)
        frame[f"py{jet}"] = x * np.sin(angle) + y * np.cos(angle)
    write_lhco_features(frame, path)


def peak_memory(command: list[str]) -> tuple[int, float, int]:
    """Largest sum of the proportional set sizes of a process and its children, bytes; seconds; exit code."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    root = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        total = 0
        for member in [root, *_children(root)]:
            try:
                # Libraries that processes share would count several times in the resident size.
                total += member.memory_full_info().pss
            except psutil.Error:
                continue
        peak = max(peak, total)
        time.sleep(0.2)
    return peak, time.perf_counter() - start, process.returncode


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="100,000 events: checks the script only")
    arguments = parser.parse_args()
    events = 100_000 if arguments.quick else arguments.events
    with tempfile.TemporaryDirectory() as folder:
        file, config = Path(folder) / "events.h5", Path(folder) / "memory.yaml"
        make_file(file, events)
        config.write_text(
            f"data: {{events: {file}}}\n"
            f"density: {{training: {{epochs: 3}}}}\n"
            f"classifier: {{model: {{members: {arguments.members}}}}}\n"
        )
        command = [sys.executable, "-m", "cathode.run.cli", "search", str(config), "--output", f"{folder}/run"]
        peak, seconds, code = peak_memory(command)
    cores = len(os.sched_getaffinity(0))
    print(f"{events} events, {cores} worker processes: peak {peak / 2**30:.2f} GiB in all processes together, "
          f"{seconds:.0f} s, exit code {code} (target: at most 3 GB for a million events)")  # fmt: skip


if __name__ == "__main__":
    main()
