"""The house rules: who may import whom, who may print, and no path of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".ipynb", ".txt", ".cfg", ".sh", ""}
# Roots under which only one machine's own files live; spelled apart so that this file holds none of them.
PLACES = re.compile(r"(?<![\w.~:/-])/(?:" + "|".join(["work", "root", "home", "Users", "mnt", "scratch"]) + r")/\w")


def modules() -> list[Path]:
    return sorted(p for package in ("cathode", "fastsim") for p in (ROOT / package).rglob("*.py"))


def test_import_rules_hold():
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kept, broken = map(int, re.search(r"(\d+) kept, (\d+) broken", done.stdout).groups())
    assert kept >= 4
    assert broken == 0


def printing(source: str) -> list[int]:
    calls = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call))
    return [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_libraries_do_not_print(path):
    found = printing(path.read_text(encoding="utf-8"))
    if path.name in ("cli.py", "commands.py"):
        return
    assert not found, f"print in lines {found}: use logging, or return what is to be said"


def test_what_is_looked_for_is_found():
    assert printing("def f():\n    print('x')\n") == [2]
    assert PLACES.search("open('/ho" + "me/me/x')")
    assert PLACES.search("see /wo" + "rk/x")
    assert not PLACES.search("https://a.org/home/x and ./home/x")


def test_no_path_of_one_machine():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    names = [n for n in done.stdout.split("\0") if n and Path(n).suffix in TEXT]
    found = []
    for name in names:
        path = ROOT / name
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{name}:{k}" for k, line in enumerate(text.splitlines(), 1) if PLACES.search(line)]
    assert not found
