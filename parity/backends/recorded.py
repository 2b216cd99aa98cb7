"""What a dump holds, as a backend: `recorded:PATH`. Nothing is computed here; see `parity.dumps`.

A clip that the dump hasn't got gets no array, which is judged as missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from parity import frontend as fe
from parity.dumps.dump import Dump, of_stage
from parity.protocols import Array, Clip, Tap, Taps, Unsupported


class RecordedBackend:
    """Option: `path`, a file or folder, with `dump.toml` beside it where its layout must be said."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._dumps: dict[str, Dump] = {}

    def _of(self, frontend: fe.Frontend) -> Dump:
        """The dump as a recipe's; what its layout names beyond the recipe is left alone."""
        if frontend.digest not in self._dumps:
            self._dumps[frontend.digest] = Dump(self._path, None, frontend.taps)
        return self._dumps[frontend.digest]

    def versions(self) -> Mapping[str, str]:
        return {"numpy": np.__version__}

    def supports(self, frontend: fe.Frontend) -> Unsupported | None:
        if frontend.output in self.taps(frontend):
            return None
        has = ", ".join(sorted(self._of(frontend).taps))
        return Unsupported(f"{self._path} has no {frontend.output}, which a network is fed with, but {has}: "
                           "`parity compare` judges what is there")  # fmt: skip

    def taps(self, frontend: fe.Frontend) -> frozenset[Tap]:
        return self._of(frontend).taps & frozenset(frontend.taps)

    def features(self, clips: Sequence[Clip], frontend: fe.Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        dump, results = self._of(frontend), []
        for clip in clips:
            key, out = dump.key(clip.name, clip.sha256), dict[Tap, Array]()
            for tap in sorted(taps) if key is not None else ():
                if key is not None and (got := dump.get(tap, key, of_stage(frontend, tap))) is not None:
                    out[tap] = got[0]
            results.append(out)
        return results
