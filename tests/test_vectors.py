"""Published vectors as an anchor: what the oracle reproduces, what it must not, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from parity import packed, record, system, vectors
from parity.errors import AnchorError, ConfigError
from parity.report import wording
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

ELL = rig.MODELS / "logmel-gru" / "ell-dsp.npz"
"""Published with Microsoft's ELL."""
BANK = """
[[anchor.vector]]
input = "identity:257"
after = "features/spectrum"
tap = "features/filterbank"
expected = "ell-dsp.npz:Cepstrum_16000_512_13"
transposed = true
tolerance = 1e-12
recipe = { filterbank = { bands = 13, scale = "1127ln", norm = "none", triangles = "bins" } }
"""
WINDOW = """
[[anchor.vector]]
input = "ones:301"
after = "features/frames"
tap = "features/windowed"
expected = "ell-dsp.npz:GetReferenceHammingWindow_301_symmetric"
tolerance = 1e-12
recipe = { frame = { length = 301 }, window = { name = "hamming", periodic = false } }
"""
FFT = """
[[anchor.vector]]
input = "ell-dsp.npz:GetFFTTestData_512"
after = "features/windowed"
tap = "features/spectrum"
expected = "ell-dsp.npz:GetRealFFT_512"
tolerance = 6e-10
recipe = { spectrum = { exponent = 1 } }
"""


def anchored(
    folder: Path, *tables: str, source: str = "microsoft/ELL, MIT", change: tuple[str, str] = ("", "")
) -> Path:
    """commands-cnn with published vectors; texts of the tables changed."""
    rig.system(folder)
    shutil.copyfile(ELL, folder / ELL.name)
    text = "".join(tables)
    assert change == ("", "") or change[0] in text
    with (folder / "system.toml").open("a") as file:
        file.write(f'\n[anchor]\nsource = "{source}"\n' + (text.replace(*change) if change[0] else text))
    return folder


def met(folder: Path) -> list[vectors.Reproduced]:
    return list(vectors.reproduce(system.load(folder)))


def test_the_oracle_reproduces_what_was_published(tmp_path: Path) -> None:
    found = met(anchored(tmp_path / "s", BANK, WINDOW, FFT))
    assert [r.tap for r in found] == ["features/filterbank", "features/windowed", "features/spectrum"]
    assert all(0 <= r.error <= r.tolerance for r in found)
    assert max(r.error for r in found[:2]) < 1e-12


@pytest.mark.parametrize(
    ("table", "change", "tap"),
    [
        (BANK, ('triangles = "bins"', 'triangles = "hz"'), "features/filterbank"),
        (BANK, ('scale = "1127ln"', 'scale = "slaney"'), "features/filterbank"),
        (BANK, ('norm = "none"', 'norm = "slaney"'), "features/filterbank"),
        (WINDOW, ("periodic = false", "periodic = true"), "features/windowed"),
        (WINDOW, ('"hamming"', '"hann"'), "features/windowed"),
        (FFT, ("exponent = 1", "exponent = 2"), "features/spectrum"),
        (BANK, ("tolerance = 1e-12", "tolerance = 0"), "features/filterbank"),
    ],
)
def test_another_recipe_does_not(table: str, change: tuple[str, str], tap: str, tmp_path: Path) -> None:
    with pytest.raises(AnchorError, match=f"doesn't reproduce .* at {tap}: off by"):
        met(anchored(tmp_path / "s", table, change=change))


def test_a_sound_is_an_input_from_the_first_stage_on(tmp_path: Path) -> None:
    folder = anchored(tmp_path / "s", source="made here")
    rig.wav(folder / "yes.wav")
    digest = system.load(rig.SYSTEM).frontend.digest
    (recorded,) = (rig.ROOT / "golden" / "features" / digest[:16]).glob("yes-*.npz")
    np.save(folder / "yes.npy", packed.unpack(recorded.read_bytes(), recorded)["features/compressed"])
    table = '[[anchor.vector]]\ninput = "yes.wav"\ntap = "features/compressed"\nexpected = "yes.npy"\ntolerance = {}\n'
    text = (folder / "system.toml").read_text()
    (folder / "system.toml").write_text(text + table.format(1e-6))
    (found,) = met(folder)
    assert 0 < found.error <= 1e-6
    (folder / "system.toml").write_text(text + table.format(0))
    with pytest.raises(AnchorError, match="off by"):
        met(folder)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            ("transposed = true", ""),
            AnchorError,
            r"has shape \[13, 257\], the oracle's features/filterbank \[257, 13\]",
        ),
        (("identity:257", "identity:256"), ConfigError, "features/filterbank can't take the input"),
        (("npz:Cepstrum_16000_512_13", "npz:Cepstrum"), ConfigError, "can't be read"),
        (("npz:Cepstrum_16000_512_13", "npz"), ConfigError, "holds several arrays"),
        (('"ell-dsp.npz:Cepstrum_16000_512_13"', '"none.npy"'), ConfigError, "can't be read"),
        (("features/spectrum", "features/filterbank"), ConfigError, "doesn't come after"),
        (("bands = 13", "bends = 13"), ConfigError, "unknown key 'bends'"),
        (("features/spectrum", "features/spectra"), ConfigError, "not a tap of the recipe"),
        (("tolerance = 1e-12", "tolerance = -1.0"), ConfigError, "is not a distance"),
        (("tolerance", "tolerence"), ConfigError, "unknown key 'tolerence'"),
    ],
)
def test_a_vector_that_makes_no_sense_is_refused(
    change: tuple[str, str], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        met(anchored(tmp_path / "s", BANK, change=change))


def test_vectors_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown origin"):
        system.load(anchored(tmp_path / "s", BANK, source=" "))


@pytest.mark.slow
def test_goldens_are_recorded_where_they_are_reproduced_and_only_there(tmp_path: Path) -> None:
    good = anchored(tmp_path / "good", FFT)
    bad = anchored(tmp_path / "bad", FFT, WINDOW, change=("periodic = false", "periodic = true"))
    sound = rig.wav(tmp_path / "wavs" / "yes.wav").parent

    def make(folder: Path, local: LocalTarget) -> dict[str, object]:
        found = system.load(folder)
        assert record.usual_anchor(found) is None
        what = record.Recording(
            system=found, folder=sound, root=tmp_path / "golden", runtime="onnxrt", anchor=record.usual_anchor(found)
        )
        return record.record(what, local, lambda *_: None)[1]["anchor"]

    with rig.target() as local:
        with pytest.raises(AnchorError):
            make(bad, local)
        assert not (tmp_path / "golden").exists()
        anchor = make(good, local)
    assert anchor["backend"] == "published vectors"
    told = wording.published(anchor)
    assert "1 published vectors reproduced (microsoft/ELL, MIT) at features/spectrum; none for features/audio" in told


def test_vectors_that_lie_under_a_variable_are_needed_for_recording_and_told_by_verifying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = anchored(tmp_path / "s", BANK, WINDOW, change=("ell-dsp.npz:Cep", "$ELSEWHERE/ell-dsp.npz:Cep"))
    found = system.load(folder)
    monkeypatch.delenv("ELSEWHERE", raising=False)
    with pytest.raises(ConfigError, match="isn't at hand") as error:
        list(vectors.reproduce(found))
    assert "set ELSEWHERE" in str(error.value.hint)
    assert [r.tap for r in vectors.reproduce(found, at_hand=True)] == ["features/windowed"]
    assert vectors.absent(found) == ["$ELSEWHERE/ell-dsp.npz:Cepstrum_16000_512_13"]
    monkeypatch.setenv("ELSEWHERE", str(ELL.parent))
    assert vectors.absent(found) == []
    told = vectors.about(found, list(vectors.reproduce(found)))
    assert set(told["files"]) == {"$ELSEWHERE/ell-dsp.npz", "ell-dsp.npz"}


@pytest.mark.data
def test_tiny_conv_is_anchored_by_what_was_published_with_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARITY_DATA", str(data))
    found = system.load(rig.MODELS / "tiny-conv")
    assert [(r.tap, r.error, r.tolerance) for r in vectors.reproduce(found)] == [("features/quantized", 0.0, 0.0)] * 2


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _npz(path: Path, **arrays: object) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("v.npy", Path.touch, "can't be read"),
        ("v.npy", lambda p: p.write_bytes(b"PK\x03\x04" + 60 * b"x"), "can't be read"),
        ("v.npy:a", lambda p: np.save(p, np.ones((1, 257))), "can't be read"),
        ("v.npz:a", lambda p: (_npz(p, a=np.ones((1, 257))), _cut(p)), "can't be read"),
        ("v.npz:b", lambda p: _npz(p, a=np.ones((1, 257))), "can't be read"),
        ("v.npz", lambda p: _npz(p), "holds no array"),
        ("v.npy", lambda p: np.save(p, np.array([["one"]])), "real numbers"),
        ("v.npy", lambda p: np.save(p, np.ones((1, 257), np.complex64)), "real numbers"),
        ("v.npy", lambda p: np.save(p, np.ones((0, 257))), "is empty: it proves nothing"),
    ],
)
@pytest.mark.parametrize("side", ["input", "expected"])
def test_a_vector_that_holds_no_numbers_is_refused(
    name: str, make: Callable[[Path], object], words: str, side: str, tmp_path: Path
) -> None:
    old = "ell-dsp.npz:" + {"input": "GetFFTTestData_512", "expected": "GetRealFFT_512"}[side]
    folder = anchored(tmp_path / "s", FFT, change=(old, name))
    make(folder / name.partition(":")[0])
    with pytest.raises(ConfigError, match=words) as error:
        met(folder)
    assert error.value.exit_code == 3


def test_nothing_in_and_nothing_out_is_not_reproduced(tmp_path: Path) -> None:
    for size in ("identity:0", "ones:0"):
        folder = anchored(tmp_path / size[:3], BANK, change=("identity:257", size))
        with pytest.raises(ConfigError, match="can't be read"):
            met(folder)
