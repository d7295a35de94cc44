"""Execute the notebooks of this folder from start to end and report the time of each.

Each runs in a temporary folder of its own, so what it writes is gone afterwards; the first cell that fails ends the run
with its traceback and exit code 1.

    python notebooks/run.py [NAME ...] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent


def execute(path: Path, *, timeout: int, keep: Path | None) -> float:
    """Seconds that the notebook at ``path`` took.

    Args:
        path: The notebook; it is not changed.
        timeout: Seconds that one cell may take.
        keep: Folder for the executed copy, with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    with TemporaryDirectory(prefix="notebook-") as folder:
        client = NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": folder}})
        try:
            client.execute()
        finally:
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                nbformat.write(notebook, keep / path.name)
    return time.perf_counter() - start


def main() -> int:
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks without .ipynb; all of them if none is given")
    parser.add_argument("--keep", type=Path, help="folder for the executed notebooks")
    parser.add_argument("--timeout", type=int, default=600, help="seconds per cell")
    arguments = parser.parse_args()
    known = {path.stem: path for path in sorted(HERE.glob("*.ipynb"))}
    wanted = [Path(name).stem for name in arguments.names] or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        print(f"no notebook called {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    failed = 0
    for name in wanted:
        try:
            seconds = execute(known[name], timeout=arguments.timeout, keep=arguments.keep)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            print(f"{name}: FAILED\n{error}", file=sys.stderr, flush=True)
            failed += 1
        else:
            print(f"{name}: {seconds:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
