"""Stand-ins for boards set up from nothing: what `parity target setup --offline` takes, and that a run passes then.

Seconds are this machine's, under emulation: of no board.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from parity.errors import ParityError
from parity.targets.emulated_pi import EmulatedPi
from tests.plugins_for_tests import rig
from tests.proof.tables import Line

_KINDS = (("emulated-pi", "onnxrt"), ("emulated-pi32", "tflite"))


def lines() -> Iterator[Line]:
    """A line a kind of board."""
    for kind, runtime in _KINDS:
        try:
            with EmulatedPi(kind, fresh=True) as device, tempfile.TemporaryDirectory() as folder:
                yield from _board(kind, runtime, device, Path(folder))
        except ParityError as e:
            yield Line(f"a fresh {kind} is set up", f"not measured: {e.message}", None)


def _board(kind: str, runtime: str, device: EmulatedPi, folder: Path) -> Iterator[Line]:
    (folder / "reference_models").mkdir()
    text = f'[targets.pi]\nssh = "{device.host}"\nssh_config = "{device.ssh_config}"\n'
    (folder / "parity.toml").write_text(text, encoding="utf-8")

    def typed(*words: str | Path) -> tuple[int, float]:
        begun = time.monotonic()
        return rig.parity(*words, cwd=folder).returncode, time.monotonic() - begun

    before, _ = typed("target", "check", "pi")
    made, seconds = typed("target", "setup", "pi", "--offline")
    again, nothing = typed("target", "setup", "pi", "--offline")
    after, _ = typed("target", "check", "pi")
    codes = [before, made, again, after]
    figure = f"exit codes {codes}; {seconds:.0f} s, again {nothing:.0f} s"
    yield Line(f"a fresh {kind}: check 3, setup --offline 0, the same again 0, check 0", figure, codes == [3, 0, 0, 0])
    run, seconds = typed("run", "--target", "pi", "--system", rig.SYSTEM, "--backend", "numpy", "--runtime", runtime,
                         "--golden", rig.ROOT / "golden", "--report", folder / "reports")  # fmt: skip
    yield Line(
        f"its first verdict: commands-cnn, numpy and {runtime}, exit code 0", f"{run}; {seconds:.0f} s", run == 0
    )
    left, _ = typed("target", "clean", "pi", "--all")
    found = rig.parity("target", "clean", "pi", "--all", cwd=folder).stdout.strip()
    yield Line("clean --all leaves nothing", found, left == 0 and found == "pi: parity keeps nothing there")
