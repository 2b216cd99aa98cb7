"""Which array of a dump is whose, and each as it stands at its tap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.dumps import description
from parity.dumps.description import Description
from parity.dumps.dump import Dump, Expected, of_stage, stem
from parity.errors import ConfigError
from parity.protocols import Array
from parity.testing import RECIPES

LOGMEL, SPECTRUM = "features/compressed", "features/spectrum"
TAPS = (SPECTRUM, LOGMEL, "model/fc-1", "model/logits")
WHAT = Expected("TF", "float32", 3)
A = np.arange(12, dtype=np.float32).reshape(4, 3)
B = A + 100


def said(*arrays: dict[str, Any], **more: Any) -> Description:
    return Description(arrays=tuple(description.entry("test", "", a) for a in arrays), **more)


def got(dump: Dump, clip: str, tap: str = LOGMEL, what: Expected = WHAT) -> Array | None:
    key = dump.key(clip)
    found = None if key is None else dump.get(tap, key, what)
    return None if found is None else found[0]


def test_folders_as_an_export_names_them(tmp_path: Path) -> None:
    for clip, array in (("yes_a", A), ("no", B)):
        (tmp_path / clip).mkdir()
        np.save(tmp_path / clip / "features_compressed.npy", array)
        np.save(tmp_path / clip / "model_fc_1.npy", array[0])
    dump = Dump(tmp_path, None, TAPS)
    assert dump.taps == {LOGMEL, "model/fc-1"}
    np.testing.assert_array_equal(got(dump, "yes-a.flac"), A)
    np.testing.assert_array_equal(got(dump, "no.wav"), B)
    assert got(dump, "maybe.wav") is None
    assert dump.extra([("no.wav", "")]) == ["yes_a"]
    assert len(dump.sha256) == 64


def test_one_file_a_clip_needs_its_tap(tmp_path: Path) -> None:
    (tmp_path / "go").mkdir()
    np.save(tmp_path / "go" / "a.npy", A)
    with pytest.raises(ConfigError, match="can't be told") as e:
        Dump(tmp_path, None, TAPS)
    assert "--tap" in (e.value.hint or "")
    dump = Dump(tmp_path, said({"tap": LOGMEL}), TAPS)
    np.testing.assert_array_equal(got(dump, "go/a.wav"), A)
    assert got(dump, "a.wav") is None
    np.save(tmp_path / "go" / "a.csv.npy", A)
    np.savetxt(tmp_path / "go" / "a.csv", A, delimiter=",")
    with pytest.raises(ConfigError, match="two arrays of features/compressed for go/a"):
        Dump(tmp_path, said({"tap": LOGMEL}), TAPS)


def test_npz_with_a_variable_a_tap_or_a_clip(tmp_path: Path) -> None:
    np.savez(tmp_path / "yes.npz", **{"features/spectrum": A, "features_compressed": B})
    dump = Dump(tmp_path, None, TAPS)
    assert dump.taps == {SPECTRUM, LOGMEL}
    np.testing.assert_array_equal(got(dump, "yes.wav", SPECTRUM), A)
    np.testing.assert_array_equal(got(dump, "yes.wav"), B)
    np.savez(tmp_path / "all.npz", yes=A, no=B)
    dump = Dump(tmp_path / "all.npz", said({"tap": LOGMEL}), TAPS)
    assert dump.keys == ["no", "yes"]
    np.testing.assert_array_equal(got(dump, "no.flac"), B)
    dump = Dump(tmp_path / "all.npz", said({"tap": LOGMEL, "variable": "no"}, clips=("x.wav",)), TAPS)
    np.testing.assert_array_equal(got(dump, "x.wav"), B)
    (tmp_path / "all.npz").rename(tmp_path / "yes.npz")
    np.savez(tmp_path / "yes.npz", p=A, q=B)
    with pytest.raises(ConfigError, match="several variables: p, q") as e:
        Dump(tmp_path, said({"tap": LOGMEL}), TAPS).get(LOGMEL, "yes", WHAT)
    assert "--variable" in (e.value.hint or "")


@pytest.mark.parametrize(
    ("array", "axes"),
    [
        (np.stack([A, B]), None), (np.stack([A, B]), "NTF"), (np.stack([A.T, B.T]), "NFT"),
        (np.stack([A, B], axis=-1), "TFN"), (np.stack([A, B])[:, None], "N1TF"),
    ],
)  # fmt: skip
def test_a_stack_of_clips_of_any_axes(array: Array, axes: str | None, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    entry = {"tap": LOGMEL} | ({} if axes is None else {"axes": axes})
    dump = Dump(tmp_path / "x.npy", said(entry, clips=("yes.wav", "no.wav")), TAPS)
    np.testing.assert_array_equal(got(dump, "yes.wav"), A)
    np.testing.assert_array_equal(got(dump, "no.wav"), B)


def test_a_stack_that_holds_other_clips_than_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack([A, B]))
    dump = Dump(tmp_path / "x.npy", said({"tap": LOGMEL}, clips=("a", "b", "c")), TAPS)
    with pytest.raises(ConfigError, match=r"2 clips along N of \[2, 4, 3\], 3 are named"):
        got(dump, "a")
    with pytest.raises(ConfigError, match=r"3 axes \[2, 4, 3\] where the layout 'TF' has 2") as e:
        Dump(tmp_path / "x.npy", said({"tap": LOGMEL}), TAPS).get(LOGMEL, "x", WHAT)
    assert "axes = 'FT'" in (e.value.hint or "")


def test_raw_bytes_get_their_axes_from_the_recipe_or_by_word(tmp_path: Path) -> None:
    (tmp_path / "x.f32").write_bytes(np.stack([A, B]).tobytes())
    dump = Dump(tmp_path / "x.f32", said({"tap": LOGMEL}, clips=("a", "b")), TAPS)
    np.testing.assert_array_equal(got(dump, "b"), B)
    dump = Dump(tmp_path / "x.f32", said({"tap": LOGMEL}), TAPS)
    np.testing.assert_array_equal(got(dump, "x"), np.concatenate([A, B]))
    (tmp_path / "t.f32").write_bytes(A.T.tobytes())
    np.testing.assert_array_equal(got(Dump(tmp_path / "t.f32", said({"tap": LOGMEL, "axes": "FT"}), TAPS), "t"), A)
    (tmp_path / "x.f32").write_bytes(A.tobytes()[:-4])
    with pytest.raises(ConfigError, match="11 numbers aren't whole frames of 3 bands"):
        got(Dump(tmp_path / "x.f32", said({"tap": LOGMEL}), TAPS), "x")
    with pytest.raises(ConfigError, match=r"11 numbers aren't of shape \[4, 3\]"):
        got(Dump(tmp_path / "x.f32", said({"tap": LOGMEL, "shape": [4, 3]}), TAPS), "x")


def test_text_of_a_stack_and_of_a_vector(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "x.csv", np.concatenate([A, B]), delimiter=",")
    dump = Dump(tmp_path / "x.csv", said({"tap": LOGMEL, "shape": [2, 4, 3]}, clips=("a", "b")), TAPS)
    np.testing.assert_array_equal(got(dump, "b"), B)
    logits = Expected("C", "float32")
    for text in ("1,2,3\n", "1\n2\n3\n"):
        (tmp_path / "yes.csv").write_text(text)
        x = got(Dump(tmp_path / "yes.csv", said({"tap": "model/logits"}), TAPS), "yes.wav", "model/logits", logits)
        assert x is not None
        np.testing.assert_array_equal(x, np.array([1, 2, 3], np.float32))
        assert x.dtype == np.float32
    (tmp_path / "yes.csv").write_text("1,2,3\n4,5,6\n")
    with pytest.raises(ConfigError, match=r"2 axes \[2, 3\] where the layout 'C' has 1"):
        got(Dump(tmp_path / "yes.csv", said({"tap": "model/logits"}), TAPS), "yes.wav", "model/logits", logits)


def test_activations_of_any_framework_s_axes(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.float32).reshape(1, 4, 2, 3)  # N C T F
    np.save(tmp_path / "yes.npy", x)
    dump = Dump(tmp_path, said({"tap": "model/fc-1", "axes": "NCTF"}), TAPS)
    right = got(dump, "yes", "model/fc-1", Expected("TFC", "float32"))
    np.testing.assert_array_equal(right, x[0].transpose(1, 2, 0))
    with pytest.raises(ConfigError, match="axes 'NCTF' where the tap has 'TF'"):
        got(dump, "yes", "model/fc-1", WHAT)


def test_integers_have_a_scale_and_a_zero_point(tmp_path: Path) -> None:
    q = np.array([[-128, 0, 127]], np.int8)
    np.save(tmp_path / "yes.npy", q)
    dump = Dump(tmp_path, said({"tap": LOGMEL, "scale": 0.5, "zero_point": -128}), TAPS)
    found = dump.get(LOGMEL, "yes", WHAT)
    assert found is not None
    value, raw = found
    np.testing.assert_array_equal(value, np.array([[0, 64, 127.5]], np.float32))
    assert value.dtype == np.float32
    assert raw is not None
    assert (raw.scale, raw.zero_point, raw.integers.dtype.name) == (0.5, -128, "int8")
    np.testing.assert_array_equal(raw.integers, q)


def test_a_dtype_is_the_file_s_own_unless_it_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "yes.npy", A.astype(np.float64))
    plain, told = (
        Dump(tmp_path, said({"tap": LOGMEL}), TAPS),
        Dump(tmp_path, said({"tap": LOGMEL, "dtype": "float32"}), TAPS),
    )
    wide, narrow = got(plain, "yes"), got(told, "yes")
    assert wide is not None
    assert narrow is not None
    assert (wide.dtype.name, narrow.dtype.name) == ("float64", "float32")
    np.save(tmp_path / "yes.npy", np.array([[0.5, 1.0, 2.0]]))
    for dtype, wrong in (("uint8", "0.5 is no uint8"), ("int8", "0.5 is no int8")):
        with pytest.raises(ConfigError, match=wrong):
            got(Dump(tmp_path, said({"tap": LOGMEL, "dtype": dtype}), TAPS), "yes")
    np.savetxt(tmp_path / "no.csv", [[1, 2, 300]], delimiter=",")
    with pytest.raises(ConfigError, match="300 is no uint8"):
        got(Dump(tmp_path / "no.csv", said({"tap": LOGMEL}), TAPS), "no", what=Expected("TF", "uint8", 3))


def test_clips_by_another_name_and_by_their_samples(tmp_path: Path) -> None:
    for name in ("rec0", "rec1"):
        np.save(tmp_path / f"{name}.npy", A)
    digest = "ab" * 32
    named = {"rec0": "yes.wav", "rec1": digest}
    dump = Dump(tmp_path, said({"tap": LOGMEL}, named=named), TAPS)
    assert (dump.key("yes.wav"), dump.key("any.wav", digest), dump.key("rec0.wav")) == ("rec0", "rec1", None)
    assert dump.extra([("yes.wav", ""), ("any.wav", digest)]) == []
    with pytest.raises(ConfigError, match="no array of 'rec9', which `clips` names"):
        Dump(tmp_path, said({"tap": LOGMEL}, named={"rec9": "yes.wav"}), TAPS)
    only = Dump(tmp_path, said({"tap": LOGMEL}, clips=("rec1.wav",)), TAPS)
    assert only.keys == ["rec1"]
    with pytest.raises(ConfigError, match=r"nothing of the clip 'rec3.wav'") as e:
        Dump(tmp_path, said({"tap": LOGMEL}, clips=("rec3.wav",)), TAPS)
    assert "did you mean" in (e.value.hint or "")


def test_the_layout_beside_a_dump_is_found(tmp_path: Path) -> None:
    np.save(tmp_path / "a-mel.npy", A.T)
    (tmp_path / "dump.toml").write_text(f'[[arrays]]\ntap = "{LOGMEL}"\nfile = "{{clip}}-mel.npy"\naxes = "FT"\n')
    for path in (tmp_path, tmp_path / "dump.toml"):
        np.testing.assert_array_equal(got(Dump(path, None, TAPS), "a.wav"), A)
    (tmp_path / "a-mel.toml").write_text(f'clips = ["a.wav"]\n[[arrays]]\ntap = "{LOGMEL}"\naxes = "FT"\n')
    np.testing.assert_array_equal(got(Dump(tmp_path / "a-mel.npy", None, TAPS), "a.wav"), A)
    with pytest.raises(ConfigError, match=r"no file \{clip\}\.csv"):
        Dump(tmp_path, said({"tap": LOGMEL, "file": "{clip}.csv"}), TAPS)
    with pytest.raises(ConfigError, match="no dump at"):
        Dump(tmp_path / "none", None, TAPS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('taps = "x"', "there is no such key"), ('fed = "mine"', "'mine' is none of golden, own"),
        ("clips = 3", "expected a list of names"), ('clips = ["a", "a"]', "'a' stands twice"), ("a = ", "is not TOML"),
        ('[arrays]\ntap = "x"', "expected a list of tables"), ("[[arrays]]\nfile = 'a'", "tap: missing"),
        ("[[arrays]]\ntap = 'logmel'", "'logmel' is no tap"),
        ("[[arrays]]\ntap = 'features/x'\naxes = 'XY'", "axis 'X'"),
        ("[[arrays]]\ntap = 'features/x'\naxes = 'TT'", "stands twice"),
        ("[[arrays]]\ntap = 'features/x'\ndtype = 'complex64'", "no dtype of real numbers"),
        ("[[arrays]]\ntap = 'features/x'\nwritten = 'floaty'", "no dtype"),
        ("[[arrays]]\ntap = 'features/x'\nscale = 0", "a number, not zero"),
        ("[[arrays]]\ntap = 'features/x'\nscale = '1'", "expected a number"),
        ("[[arrays]]\ntap = 'features/x'\nshape = [4, -1]", "a list of whole numbers"),
        ("[[arrays]]\ntap = 'features/x'\nheader = -1", "a number of lines"),
        ("[[arrays]]\ntap = 'features/x'\naxis = 'TF'", "did you mean 'axes'"),
        ("[[arrays]]\ntap = 'features/x'\n[[arrays]]\ntap = 'features/x'", "features/x stands twice"),
        ('command = "./x"', "there is no such key"),
    ],
)  # fmt: skip
def test_a_layout_that_is_wrong_is_told_by_its_key(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "dump.toml").write_text(text)
    with pytest.raises(ConfigError) as e:
        description.read(tmp_path / "dump.toml")
    assert words in f"{e.value.message} {e.value.hint}"
    assert e.value.hint


def test_options_lie_over_a_layout() -> None:
    base = said({"tap": LOGMEL, "axes": "FT"}, {"tap": SPECTRUM})
    assert [e.dtype for e in description.changed(base, {}, {"dtype": "float32"}).arrays] == ["float32"] * 2
    one = description.changed(base, {"fed": "own"}, {"tap": LOGMEL, "header": 2})
    assert [(e.tap, e.axes, e.header) for e in one.arrays] == [(LOGMEL, "FT", 2)]
    assert one.fed == "own"
    with pytest.raises(ConfigError, match="--axes is of an array, but none is named"):
        description.changed(Description(), {}, {"axes": "FT"})


@pytest.mark.parametrize("name", RECIPES)
def test_the_width_of_every_stage_is_the_oracle_s(name: str) -> None:
    from parity.backends import reference
    from parity.testing import SOUNDS

    for tap, array in reference.run(RECIPES[name], SOUNDS[0].samples.astype(np.float64)).items():
        what = of_stage(RECIPES[name], tap)
        assert len(what.axes) == array.ndim
        assert array.ndim == 1 or what.width == array.shape[1], tap


def test_a_clip_s_name_without_its_ending() -> None:
    assert [stem(n) for n in ("a.b.wav", "a", "x.y/b", ".hidden")] == ["a.b", "a", "x.y/b", ".hidden"]
