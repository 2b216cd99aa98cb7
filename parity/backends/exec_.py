"""A program as a backend: `exec:COMMAND`. It is given a wav and writes an array; no shell is between.

`exec:./featurizer {wav} {out}.csv`: `{wav}` is the clip's file, `{out}` the beginning of a name in a folder of its own,
`{dir}` that folder. Without `{wav}` the wav comes on stdin; without `{out}` and `{dir}` the array is read from stdout,
where it is .npy or raw little-endian float32. `exec:FILE.toml` says more: `command`, `limit`, `stdout`, and the
`[[arrays]]` of `parity.dumps.description`, whose `file` lies in `{dir}`.

The wav is 16-bit PCM where that loses nothing of the clip, else 32-bit float, mono, of the clip's own rate.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from parity import frontend as fe
from parity.dumps import files
from parity.dumps.description import Description, Entry, read
from parity.dumps.dump import Place, at_tap, identifier, load, of_stage
from parity.errors import ConfigError
from parity.protocols import Array, Clip, Tap, Taps, Unsupported

_PLACES = ("{wav}", "{out}", "{dir}")
_NPY = b"\x93NUMPY"


class ProgramError(Exception):
    """A program that didn't do what it should for a clip; the text says what, for the pair's `error` verdict."""


def wav(samples: Array, rate: int) -> bytes:
    """A WAV file of float32 `[n]` samples at full scale ±1.0: 16-bit PCM where that is lossless, else float32."""
    whole = samples.astype(np.float64) * 32768.0
    lossless = bool(((whole == np.rint(whole)) & (whole >= -32768) & (whole <= 32767)).all())
    data = (whole.astype("<i2") if lossless else samples.astype("<f4")).tobytes()
    kind, size = (1, 2) if lossless else (3, 4)
    form = struct.pack("<HHIIHH", kind, 1, rate, rate * size, size, 8 * size)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    if not lossless:  # what isn't PCM says how many samples there are
        chunks += b"fact" + struct.pack("<II", 4, len(samples))
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def _split(command: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(command, str):
        return tuple(command)
    try:
        return tuple(shlex.split(command))
    except ValueError as e:
        raise ConfigError(f"the command {command!r} can't be split into words: {e}", "close its quotes") from None


class ExecBackend:
    """Option: `command`, the program and its arguments as a shell would split them, or a .toml file."""

    def __init__(self, command: str) -> None:
        words = _split(command)
        self._cwd: Path | None = None
        self._said = Description()
        if len(words) == 1 and words[0].endswith(".toml"):
            path = Path(words[0])
            self._said, self._cwd = read(path, program=True), path.parent.resolve()
            words = _split(self._said.command)
        if not words:
            raise ConfigError("exec: names no program", "write exec:./featurizer {wav} {out}.npy, or exec:FILE.toml")
        self._words = self._found(words)
        text = " ".join(words)
        self._writes = "{out}" in text or "{dir}" in text
        if self._writes and self._said.stdout is not None:
            raise ConfigError("the program writes {out} or {dir}, and `stdout` is said", "take one of them away")
        if not self._writes and any(e.file is not None for e in self._said.arrays):
            raise ConfigError("[[arrays]] names files, but the command has no {dir} to write them to",
                              "put {dir} into `command`")  # fmt: skip

    def _found(self, words: Sequence[str]) -> tuple[str, ...]:
        """The command with its program as a path. ConfigError where there is none."""
        program = words[0]
        here = (self._cwd or Path.cwd()) / program
        found = str(here) if "/" in program else shutil.which(program)
        if found is None or not os.access(found, os.X_OK) or Path(found).is_dir():
            why = "it can't be executed" if "/" in program and here.exists() else "there is no such program"
            hint = f"chmod +x {shlex.quote(program)}" if "executed" in why else "build it, or mend its path"
            raise ConfigError(f"exec: {program!r}: {why}", hint)
        return (found, *words[1:])

    def versions(self) -> Mapping[str, str]:
        return {"numpy": np.__version__}

    def supports(self, frontend: fe.Frontend) -> Unsupported | None:
        wrong = sorted({e.tap for e in self._said.arrays} - set(frontend.taps))
        if wrong:
            return Unsupported(f"the program writes {wrong[0]}, which the recipe hasn't got")
        if self._said.arrays and frontend.output not in self.taps(frontend):
            return Unsupported(f"the program writes no {frontend.output}, which a network is fed with")
        return None

    def taps(self, frontend: fe.Frontend) -> frozenset[Tap]:
        return frozenset(e.tap for e in self._said.arrays) or frozenset({frontend.output})

    def features(self, clips: Sequence[Clip], frontend: fe.Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        return [self._one(clip, frontend, taps) for clip in clips]

    def _one(self, clip: Clip, frontend: fe.Frontend, taps: frozenset[Tap]) -> Taps:
        with tempfile.TemporaryDirectory(prefix="parity-exec-") as folder:
            places = {"{wav}": f"{folder}/clip.wav", "{out}": f"{folder}/out", "{dir}": folder}
            Path(places["{wav}"]).write_bytes(wav(clip.samples, clip.rate))
            self._run(clip, Path(folder), places)
            out = {}
            for e in self._said.arrays or (Entry(tap=frontend.output),):
                if e.tap in taps:
                    try:
                        place = self._place(e, Path(folder), clip)
                        out[e.tap] = at_tap(load(place), place, of_stage(frontend, e.tap))[0]
                    except ConfigError as error:  # of this clip: other clips and pairs go on
                        said = f"{error.message} ({error.hint})".replace(folder, "{dir}")
                        raise ProgramError(f"at clip {clip.name}: {said}") from None
            return out

    def _run(self, clip: Clip, folder: Path, places: Mapping[str, str]) -> None:
        """The program on a clip. ProgramError where it fails.

        It writes to files, not to pipes: a pipe may be held open by what it started.
        """
        words = list(self._words)
        for name in _PLACES:
            words = [w.replace(name, places[name]) for w in words]
        reads = any("{wav}" in w for w in self._words)
        said, out = folder / "stderr.txt", folder / "stdout"
        with (
            said.open("wb") as errors, out.open("wb") as stdout,
            Path(os.devnull if reads else places["{wav}"]).open("rb") as stdin,
        ):  # fmt: skip
            try:
                process = subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=errors, cwd=self._cwd)
            except OSError as e:
                raise ProgramError(f"{words[0]} can't be started: {e.strerror}") from None
            try:
                code = process.wait(timeout=self._said.limit)
            except subprocess.TimeoutExpired:
                _end(process)
                raise ProgramError(f"no answer within {self._said.limit:g} s at clip {clip.name}: stopped") from None
        if code != 0:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            last = said.read_text(errors="replace").strip().splitlines()[-1:]
            words_ = f"; its last words: {last[0].strip()[:200]}" if last else ""
            raise ProgramError(f"{Path(words[0]).name} {how} at clip {clip.name}{words_}")

    def _place(self, e: Entry, folder: Path, clip: Clip) -> Place:
        """The file that a tap was written to, of the format that it is in."""
        if e.file is not None:
            path = folder / e.file
        elif not self._writes:
            path = _as_file(folder / "stdout", self._said.stdout)
        else:
            found = [p for p in sorted(folder.iterdir()) if p.name not in ("clip.wav", "stderr.txt", "stdout")]
            mine = [p for p in found if p.stem == identifier(e.tap)] or [p for p in found if p.stem == "out"] or found
            if len(mine) > 1:
                raise ConfigError(f"the program wrote {', '.join(p.name for p in mine)}",
                                  "say which is which: `file` in [[arrays]] of exec:FILE.toml")  # fmt: skip
            path = _as_file(mine[0], None) if mine else folder / "out"
        if not path.is_file():
            raise ConfigError(f"the program wrote no {path.name}", "it ended with exit code 0: does it write to {out}?")
        return _variable(Place(e, path))


def _variable(place: Place) -> Place:
    """A place with its variable: said, named as the tap, or the only one."""
    if place.path.suffix.lower() not in files.SEVERAL or place.entry.variable is not None:
        return dataclasses.replace(place, variable=place.entry.variable)
    there, tap = files.names(place.path), place.entry.tap
    named = [n for n in there if n in (tap, identifier(tap))] or there
    if len(named) != 1:
        raise ConfigError(
            f"{place.path.name} has {len(there)} variables: {', '.join(there)}", "say `variable` in [[arrays]]"
        )
    return dataclasses.replace(place, variable=named[0])


def _as_file(path: Path, kind: str | None) -> Path:
    """A file without an ending under one that says what it is: as said, else .npy by its first bytes, else raw."""
    if path.suffix:
        return path
    with path.open("rb") as f:
        npy = f.read(len(_NPY)) == _NPY
    return path.rename(path.with_suffix(f".{kind or ('npy' if npy else 'raw')}"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and, on Linux, all that it started."""
    for pid in [*_below(process.pid), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _below(pid: int) -> list[int]:
    try:
        children = [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (OSError, ValueError):
        return []
    return [p for child in children for p in [*_below(child), child]]
