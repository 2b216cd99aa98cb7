"""`make mutants`: change what judges, one operator, number or word at a time, and see that a test fails each time.

mutmut makes the mutants and runs the tests that reach each (`[tool.mutmut]` in pyproject.toml). A mutant that no test
kills must be listed in `survivors.toml` beside this file, with the reason; one that isn't listed, and one that is
listed and dies, ends in exit code 1, and so does a share of killed mutants below 95 %. Functions that are decorated
(cached ones, properties) and numbers at a module's top level aren't mutated.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LISTED = Path(__file__).with_name("survivors.toml")
LEAST = 0.95
_ALIVE = {0: "survived", 5: "no tests", 33: "no tests", None: "not run"}
"""pytest's exit codes of a mutant that lives; the rest are deaths: a failed test, a crash, a loop without end."""


@dataclass(frozen=True)
class Mutant:
    """A line of a function, and what became of it; `how` where it lives."""

    file: str
    function: str
    was: str
    now: str
    how: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is listed under: no number, so that a line elsewhere may change."""
        return self.file, self.function, self.was, self.now


def _lines(name: str, path: Path) -> tuple[str, str]:
    """The lines that a mutant takes away and puts there, without the function's own name, which carries a number."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    diff = get_diff_for_mutant(name, path=str(path)).splitlines()
    taken = [line[1:].strip() for line in diff if line.startswith("-") and not line.startswith("---")]
    put = [line[1:].strip() for line in diff if line.startswith("+") and not line.startswith("+++")]
    return " ⏎ ".join(taken), " ⏎ ".join(put)


def found(folder: Path) -> Iterator[Mutant]:
    """Every mutant that mutmut made under `folder`, those that live with their lines."""
    for meta in sorted(folder.glob("parity/**/*.py.meta")):
        file = meta.relative_to(folder).with_suffix("").as_posix()
        for name, code in json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"].items():
            mangled = name.rpartition("__mutmut_")[0].rpartition(".")[2]
            function = mangled.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
            if code in _ALIVE:
                yield Mutant(file, function, *_lines(name, Path(file)), _ALIVE[code])
            else:
                yield Mutant(file, function, "", "")


def listed() -> dict[tuple[str, str, str, str], str]:
    """The survivors that are known, and why nobody minds them."""
    entries = tomllib.loads(LISTED.read_text(encoding="utf-8"))["survivor"] if LISTED.is_file() else []
    return {(e["file"], e["function"], e["was"], e["now"]): e["why"] for e in entries}


def report(mutants: list[Mutant]) -> int:
    """Print the table and what is wrong; the exit code."""
    known, alive = listed(), [m for m in mutants if m.how]
    made, lives = Counter(m.file for m in mutants), Counter(m.file for m in alive)
    for file in sorted(made):
        print(f"{file:32} {made[file]:5} mutants, {lives[file]:4} survive, {1 - lives[file] / made[file]:.1%} killed")
    killed = 1.0 - len(alive) / max(1, len(mutants))
    print(f"{'all':32} {len(mutants):5} mutants, {len(alive):4} survive, {killed:.1%} killed")
    wrong = 0
    for m in alive:
        if m.how != "survived" or m.key not in known:
            wrong += 1
            print(f"{m.how}, not listed: {m.file} {m.function}\n  - {m.was}\n  + {m.now}")
    for key in known.keys() - {m.key for m in alive}:
        wrong += 1
        print(f"listed, but it dies: {key[0]} {key[1]}\n  - {key[2]}\n  + {key[3]}")
    for key, why in known.items():
        if not why.strip():
            wrong += 1
            print(f"listed without a reason: {key[0]} {key[1]}\n  + {key[3]}")
    return 1 if wrong or killed < LEAST or not mutants else 0


def main() -> None:
    """Make the mutants anew and try them; `--look` reports on those that were tried last."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=main.__doc__)
    parser.add_argument("--look", action="store_true")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    given = parser.parse_args()
    os.chdir(ROOT)
    folder = ROOT / "mutants"
    if not given.look:
        shutil.rmtree(folder, ignore_errors=True)
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "HYPOTHESIS_PROFILE": "ci"}
        clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        log = ROOT / "mutants.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", "mutmut", "run", f"--max-children={given.jobs}"]
            done = subprocess.run(command, env=clean | one, stdout=out, stderr=out, check=False)
        if done.returncode != 0:
            sys.exit(f"mutmut failed: see {log}")
    sys.exit(report(list(found(folder))))


if __name__ == "__main__":
    main()
