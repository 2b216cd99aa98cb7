"""A program as a backend: how it is started, what it may write, and what becomes of it when it fails."""

from __future__ import annotations

import io
import os
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parity import registry
from parity.backends.exec_ import ExecBackend, ProgramError, wav
from parity.errors import ConfigError
from parity.protocols import Array, Clip, Unsupported
from parity.testing import RECIPES
from tests.plugins_for_tests import rig

FRONTEND = RECIPES["commands-cnn"]
LOGMEL = FRONTEND.output
SAMPLES = rig.clip()
CLIP = Clip("yes.wav", SAMPLES, 16000, "")


def script(folder: Path, code: str) -> str:
    """A program of Python as the beginning of a command."""
    path = folder / "program.py"
    path.write_text("import sys, os, time\n" + code)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


def ran(command: str) -> Array:
    (got,) = ExecBackend(command).features([CLIP], FRONTEND, frozenset({LOGMEL}))
    return got[LOGMEL]


@pytest.mark.parametrize(
    ("samples", "subtype"),
    [
        (SAMPLES, "PCM_16"), (np.array([-1.0, 32767 / 32768, 0], np.float32), "PCM_16"),
        (np.array([1.0, 0.5], np.float32), "FLOAT"), (np.array([0.1, -1.5, 1e-30], np.float32), "FLOAT"),
    ],
)  # fmt: skip
def test_the_wav_holds_every_bit_of_the_clip(samples: Array, subtype: str) -> None:
    data = wav(samples, 8000)
    with soundfile.SoundFile(io.BytesIO(data)) as f:
        assert (f.subtype, f.samplerate, f.channels, f.format) == (subtype, 8000, 1, "WAV")
        np.testing.assert_array_equal(f.read(dtype="float32"), samples)
    assert int.from_bytes(data[4:8], "little") == len(data) - 8


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("exec:./a {wav} {out}.csv", {"command": "./a {wav} {out}.csv"}),
        ("exec:./a --gain=0.5,1 -x a:b=c {wav}", {"command": "./a --gain=0.5,1 -x a:b=c {wav}"}),
        ("recorded:a=b:c,d/x.npy", {"path": "a=b:c,d/x.npy"}), ("exec:", {}), ("exec", {}),
    ],
)  # fmt: skip
def test_all_of_a_spec_after_the_first_colon_is_the_command(spec: str, options: dict[str, str]) -> None:
    assert registry.parse(spec) == (spec.partition(":")[0], options)


def test_a_command_without_a_program_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "not-executable").write_text("")
    for spec, words in (
        ("exec", "needs a command"), ("exec:./none {wav}", "there is no such program"), ("exec:'x", "can't be split"),
        ("exec:no-such-program-anywhere", "there is no such program"), ("recorded", "needs a path"),
        (f"exec:{tmp_path}/not-executable {{wav}}", "can't be executed"),
        (f"exec:{tmp_path}/none.toml", "can't be read"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words) as e:
            registry.create("backend", spec)
        assert e.value.hint


WRITES = "import numpy as np; x = np.arange(100, dtype='f4').reshape(2, 50)\n"


@pytest.mark.parametrize(
    ("code", "rest"),
    [
        ("np.save(sys.argv[2], x)", "{wav} {out}.npy"), ("x.tofile(sys.argv[2])", "{wav} {out}"),
        ("np.save(open(sys.argv[2], 'wb'), x)", "{wav} {out}"), ("x.tofile(sys.argv[2] + '.f32')", "{wav} {out}"),
        ("np.savetxt(sys.argv[2], x, delimiter=';')", "{wav} {out}.csv"),
        ("np.savez(sys.argv[2], mel=x)", "{wav} {out}.npz"),
        ("sys.stdout.buffer.write(x.tobytes())", "{wav}"), ("np.save(sys.stdout.buffer, x)", "{wav}"),
        ("assert sys.stdin.buffer.read(4) == b'RIFF'; sys.stdout.buffer.write(x.tobytes())", ""),
        ("np.save(sys.argv[1] + '/features_compressed.npy', x); open(sys.argv[1] + '/log.npy', 'w')", "{dir}"),
    ],
)  # fmt: skip
def test_what_a_program_may_write_and_where(code: str, rest: str, tmp_path: Path) -> None:
    got = ran(f"{script(tmp_path, WRITES + code)} {rest}")
    np.testing.assert_array_equal(got, np.arange(100, dtype=np.float32).reshape(2, 50))
    assert got.dtype == np.float32


@pytest.mark.parametrize(
    ("code", "rest", "words"),
    [
        ("sys.exit('out of frames')", "{wav}", "ended with exit code 1 at clip yes.wav; its last words: out of frames"),
        ("os.kill(os.getpid(), 11)", "{wav}", "was ended by SIGSEGV"), ("pass", "{wav} {out}", "wrote no out"),
        ("pass", "{wav}", "is empty"),
        ("sys.stdout.buffer.write(bytes(399))", "{wav}", "399 bytes, which is no whole number"),
        ("sys.stdout.buffer.write(bytes(404))", "{wav}", "101 numbers aren't whole frames of 50 bands"),
        ("open(sys.argv[2], 'w').write('b0,b1\\n1,2\\n')", "{wav} {out}.csv", "'b0' is no number (say header = 1"),
        (WRITES + "np.save(sys.argv[2], x + 1j)", "{wav} {out}.npy", "complex"),
        (WRITES + "[np.save(f'{sys.argv[1]}/{n}.npy', x) for n in 'ab']", "{dir}", "wrote a.npy, b.npy"),
    ],
)  # fmt: skip
def test_a_program_that_fails_says_at_which_clip_and_how(code: str, rest: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ProgramError) as e:
        ran(f"{script(tmp_path, code)} {rest}")
    assert words in str(e.value)
    assert "yes.wav" in str(e.value)


def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\ntime.sleep(60)"
    )
    command = script(tmp_path, code)
    (tmp_path / "exec.toml").write_text(f"command = {command!r}\nlimit = 1.5\n")
    start = time.monotonic()
    with pytest.raises(ProgramError, match=r"no answer within 1.5 s at clip yes.wav"):
        ran(str(tmp_path / "exec.toml"))
    assert time.monotonic() - start < 20
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):  # whoever inherits it buries it
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            break
        time.sleep(0.1)
    else:
        os.kill(pid, 9)
        pytest.fail("what the program had started was left running")


def test_no_shell_is_between_and_nothing_stays(tmp_path: Path) -> None:
    code = WRITES + f"open({str(tmp_path / 'said')!r}, 'w').write(repr(sys.argv[2:])); np.save(sys.argv[1], x)"
    ran(f"{script(tmp_path, code)} {{out}}.npy '$HOME' '; ls' 'a b' *")
    assert (tmp_path / "said").read_text() == repr(["$HOME", "; ls", "a b", "*"])
    code = WRITES + f"open({str(tmp_path / 'said')!r}, 'w').write(sys.argv[1]); np.save(sys.argv[1] + '/x.npy', x)"
    ran(f"{script(tmp_path, code)} {{dir}}")
    assert not Path((tmp_path / "said").read_text()).exists()


def test_a_toml_says_more(tmp_path: Path) -> None:
    code = WRITES + "np.save('beside', x); np.save(sys.argv[2] + '/s.npy', x.T); np.savetxt(sys.argv[2] + '/m.csv', x)"
    command = script(tmp_path, code)
    (tmp_path / "exec.toml").write_text(
        f'command = "{command} {{wav}} {{dir}}"\n[[arrays]]\ntap = "{LOGMEL}"\nfile = "m.csv"\n'
        '[[arrays]]\ntap = "features/filterbank"\nfile = "s.npy"\naxes = "FT"\n'
    )
    backend = ExecBackend(str(tmp_path / "exec.toml"))
    assert backend.supports(FRONTEND) is None
    assert backend.taps(FRONTEND) == {LOGMEL, "features/filterbank"}
    (got,) = backend.features([CLIP], FRONTEND, backend.taps(FRONTEND))
    for array in got.values():
        np.testing.assert_array_equal(array, np.arange(100).reshape(2, 50))
        assert array.dtype == np.float32
    assert (tmp_path / "beside.npy").exists()  # it works in the file's folder
    other = RECIPES["tiny-conv"]
    assert isinstance(backend.supports(other), Unsupported)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no program"), ('command = ""', "expected a text"),
        ('command = "cat"\nstdout = "wav"', "none of npy"),
        ('command = "cat {out}"\nstdout = "npy"', "take one"), ('command = "cat"\nlimit = 0', "not zero"),
        (f'command = "cat"\n[[arrays]]\ntap = "{LOGMEL}"\nfile = "x.npy"', "no {dir}"),
        ('command = "cat"\nfed = "own"', "no such key"), ('command = ["cat", 1]', "list of texts"),
    ],
)  # fmt: skip
def test_a_toml_that_is_wrong_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "exec.toml").write_text(text)
    with pytest.raises(ConfigError) as e:
        ExecBackend(str(tmp_path / "exec.toml"))
    assert words in f"{e.value.message} {e.value.hint}"


def test_text_on_stdout_is_said(tmp_path: Path) -> None:
    command = script(tmp_path, WRITES + "np.savetxt(sys.stdout, x, delimiter=',')")
    (tmp_path / "exec.toml").write_text(f'command = ["{sys.executable}", "{command.split()[1]}"]\nstdout = "csv"\n')
    np.testing.assert_array_equal(ran(str(tmp_path / "exec.toml")), np.arange(100).reshape(2, 50))
