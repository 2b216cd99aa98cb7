from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity import consistency, schema, system
from parity import frontend as fe
from parity.errors import ConfigError
from parity.recipe import read_frontend

NAN, INF = float("nan"), float("inf")  # TOML writes them nan and inf
MICRO = {"length": 480, "hop": 320, "bands": 40}
PORT = {"name": "x", "layout": "N1TF"}
GOOD: dict[str, Any] = {
    "name": "tiny",
    "labels": ["no", "yes"],
    "frontend": {
        "input": {"rate": 16000, "length": 16032},
        "frame": {"length": 512, "hop": 160},
        "window": {"name": "hann"},
        "spectrum": {"n_fft": 512},
        "filterbank": {"kind": "mel", "bands": 50, "fmax": 8000, "scale": "htk", "norm": "slaney"},
        "compress": {"kind": "log", "base": "10", "offset": 1e-6},
    },
    "model": {"shape": [98, 50], "taps": ["model/relu", "model/logits"]},
    "decision": {"source": "model/logits"},
    "artifacts": [
        {"format": "onnx", "file": "m.onnx", "input": PORT, "taps": {"model/logits": {"name": "y", "layout": "NC"}}},
        {"format": "tflite", "precision": "int8", "file": "absent.tflite", "input": PORT,
         "taps": {"model/logits": {"name": "y", "layout": "NC", "dtype": "int8"}}},
    ],
}  # fmt: skip


def toml(value: Any) -> str:
    """A TOML value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{k}" = {toml(v)}' for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


Load = Callable[[dict[str, Any]], system.System]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def write_and_load(data: dict[str, Any]) -> system.System:
        (tmp_path / "m.onnx").write_bytes(b"model")
        (tmp_path / "system.toml").write_text("\n".join(f"{k} = {toml(v)}" for k, v in data.items()))
        return system.load(tmp_path)

    return write_and_load


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with the value at a dotted path set, or taken out where it is `...`."""
    data = copy.deepcopy(GOOD)
    *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")]
    here: Any = data
    for p in parents:
        here = here[p]
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return data


def test_a_good_file_is_read_whole(load: Load, tmp_path: Path) -> None:
    s = load(GOOD)
    assert (s.name, s.labels, s.folder) == ("tiny", ("no", "yes"), tmp_path)
    assert s.frontend.output == "features/compressed"
    assert s.frontend.filterbank == fe.Mel(bands=50, fmax=8000.0, scale="htk", norm="slaney")
    (artifact,) = s.artifacts
    assert (artifact.path, artifact.shape, artifact.precision) == (str(tmp_path / "m.onnx"), (98, 50), "float32")
    assert artifact.sha256 == "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4"
    assert s.not_built == (f"tflite int8: {tmp_path / 'absent.tflite'} isn't there",)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("lables", ""), ("frontend/inptu", "frontend"), ("frontend/input/rat", "frontend.input"),
        ("frontend/frame/lenght", "frontend.frame"), ("frontend/window/periodik", "frontend.window"),
        ("frontend/spectrum/nfft", "frontend.spectrum"), ("frontend/filterbank/band", "frontend.filterbank"),
        ("frontend/compress/offest", "frontend.compress"), ("model/shap", "model"), ("decision/sauce", "decision"),
        ("artifacts/1/fromat", "artifacts[1]"), ("artifacts/0/input/nam", "artifacts[0].input"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_refused_with_its_place_and_the_likely_one(load: Load, path: str, place: str) -> None:
    with pytest.raises(ConfigError) as e:
        load(changed(path, 1 if path != "frontend/inptu" else {"rate": 1}))
    word = path.rsplit("/")[-1]
    assert repr(word) in e.value.message
    assert f"system.toml: {place}" in e.value.message
    assert "did you mean" in (e.value.hint or "")


def test_an_unknown_key_of_a_tap_is_refused_with_its_place(load: Load) -> None:
    data = changed("artifacts/0/taps", {"model/logits": {"name": "y", "layuot": "NC"}})
    with pytest.raises(ConfigError, match=r"artifacts\[0\]\.taps\.model/logits: unknown key 'layuot'"):
        load(data)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("name", "a/b", "name: 'a/b' can't be a file's name"),
        ("name", ..., "missing required field `name`"),
        ("labels", [], "labels: labels are one or more"),
        ("labels", ["yes", "yes"], "labels: labels are one or more"),
        ("labels", "yes", "labels: expected `array`"),
        ("artifacts", [], "artifacts: no model"),
        ("artifacts", {"format": "onnx"}, "artifacts: expected a list of tables"),
        ("artifacts", [3], "artifacts: expected a list of tables"),
        ("artifacts/0/taps", 3, "artifacts[0].taps: expected `object`"),
        ("artifacts/0/taps", {}, "artifacts[0].taps: no 'model/logits'"),
        ("artifacts/0/input", {"name": "x", "layout": "TF"}, "artifacts[0].input.layout: no batch axis"),
        ("artifacts/0/taps/model/x", None, None),
        ("artifacts/0/format", "torch", "artifacts[0].network: PyTorch weights need the code"),
        ("frontend", 3, "frontend: expected `object`"),
        ("frontend/input", ..., "frontend: no [frontend.input]"),
        ("frontend/input", 3, "frontend.input: expected"),
        ("frontend/input/rate", "16k", "frontend.input.rate: expected `int`"),
        ("frontend/input/rate", 0, "frontend.input.rate: 0 Hz"),
        ("frontend/frame/hop", 0, "frontend.frame.hop: 0 is not"),
        ("frontend/frame/length", 1024, "frontend.spectrum.n_fft: an FFT of 512 is shorter"),
        ("frontend/window/length", 600, "frontend.window.length: 600 doesn't fit"),
        ("frontend/window/name", "kaiser", "frontend.window.name: invalid enum value 'kaiser'"),
        ("frontend/input/fit", "refuse", None),
        ("frontend/input", {"rate": 16000, "fit": "refuse"}, "frontend.input.fit: 'refuse' needs a length"),
        ("frontend/filterbank/kind", "gammatone", "frontend.filterbank: kind is 'gammatone'"),
        ("frontend/filterbank/kind", ..., "frontend.filterbank: kind is None"),
        ("frontend/filterbank/fmax", 9000, "frontend.filterbank: 0 to 9000 Hz is not within 0 to 8000 Hz"),
        ("frontend/filterbank/fmin", 8000, "is not within"),
        ("frontend/filterbank/bands", 0, "frontend.filterbank.bands: 0"),
        ("frontend/filterbank", {"kind": "pool", "size": 0}, "frontend.filterbank.size: 0"),
        ("frontend/compress/offset", -1e-6, "frontend.compress: offset and floor"),
        ("frontend/compress", {"kind": "db", "amin": 0}, "frontend.compress: amin is above 0"),
        ("frontend/compress", {"kind": "db", "top_db": -1}, "frontend.compress: amin is above 0, top_db 0 or more"),
        ("frontend/cepstrum", {"count": 51}, "frontend.cepstrum.count: 51 coefficients of 50 bands"),
        ("frontend/normalize", {"mean": [0.0, 1.0], "spread": [1.0]}, "frontend.normalize.mean: 2 values for 50 bands"),
        ("frontend/normalize", {"mean": [0.0], "spread": [0.0]}, "frontend.normalize.spread: a spread of 0"),
        ("frontend/quantize", {"dtype": "int8", "scale": 0}, "frontend.quantize.scale: 0 is not above 0"),
        ("frontend/input/length", 100, "input.length: 100 samples give no frame of 512"),
        ("frontend/frame", ..., "frontend.window: needs [frame] before it"),
        ("frontend/window", ..., "frontend.spectrum: needs [window] before it"),
        ("frontend/spectrum", ..., "frontend.window: needs [spectrum] after it"),
        ("frontend/micro", MICRO, "frontend.frame: [micro] is a whole front end"),
        ("model/taps", ["features/x", "model/logits"], "model.taps: 'features/x' is not a tap of a network"),
        ("model/taps", ["model/input", "model/logits"], "model.taps: 'model/input' is not"),
        ("decision/source", "model/other", "decision.source: 'model/other' is not in model.taps"),
        ("model/shape", [98, 40], "the network takes 40 bands; the frontend gives 50"),
        ("model/shape", [98], "model.shape"),
        ("artifacts/0/frames", 98, "artifacts[0].frames: only a file of a network that takes any number of frames"),
    ],
)  # fmt: skip
def test_what_doesnt_fit_is_refused_with_its_place(load: Load, path: str, value: Any, message: str | None) -> None:
    if message is None:  # these fit
        value = value if value is not None else {"name": "x", "layout": "NC"}
        data = changed(path, value) if "taps/" not in path else changed("artifacts/0/taps", {
            "model/logits": {"name": "y", "layout": "NC"}, "model/relu": value})  # fmt: skip
        load(data)
        return
    with pytest.raises(ConfigError) as e:
        load(changed(path, value))
    assert message in e.value.message
    assert e.value.hint


def recipe(**stages: Any) -> fe.Frontend:
    return read_frontend(Path("system.toml"), {"input": {"rate": 16000, "scale": "int16"}} | stages)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"micro": MICRO, "compress": {"kind": "db"}}, "frontend.compress: [micro] is a whole front end"),
        (
            {"micro": MICRO, "input": {"rate": 16000}},
            'frontend.micro: takes 16-bit samples as they are: input.scale = "i',
        ),
        ({"micro": MICRO | {"fmax": 8000}}, "frontend.micro: 125 to 8000 Hz is not within 0 to less than 8000 Hz"),
        ({"micro": MICRO | {"hop": 0}}, "frontend.micro.hop: 0 is not a number of samples"),
        ({"micro": MICRO | {"bands": 0}}, "frontend.micro.bands: 0 is not within 1 to 1024"),
        ({"micro": MICRO | {"even_smoothing": 1.5}}, "frontend.micro.even_smoothing: 1.5 is not within 0 to 1"),
        ({"micro": MICRO | {"gain_bits": 22}}, "frontend.micro.gain_bits: PCAN's largest gain"),
        ({"micro": MICRO, "input": {"rate": 16000, "scale": "int16", "length": 479}}, "give no frame of 480"),
        ({"filterbank": {"kind": "pool", "size": 6}}, "frontend.filterbank: needs [spectrum] before it"),
        ({"compress": {"kind": "db"}}, "frontend.compress: needs [spectrum] before it"),
        ({"frame": {"length": 512, "hop": 512}, "compress": {"kind": "db"}}, "compress: needs [spectrum] before it"),
        ({"window": {"name": "hann"}}, "frontend.window: needs [frame] before it"),
        ({"normalize": {"mean": [0.0, 1.0], "spread": [1.0]}}, "frontend.normalize.mean: 2 values for 1 bands"),
    ],
)
def test_stages_that_lack_what_they_work_on_are_refused(stages: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as e:
        recipe(**stages)
    assert message in e.value.message


def test_a_recipe_may_be_a_whole_front_end_or_raw_audio() -> None:
    micro = recipe(micro=MICRO, quantize={"dtype": "int8", "scale": 2.6015625, "zero_point": -128})
    assert micro.taps == ("features/audio", "features/micro", "features/quantized")
    assert (micro.frames(16000), micro.bands, micro.dtype("features/micro")) == (49, 40, "uint16")
    assert consistency.samples_for(micro, 49) == 480 + 48 * 320
    raw = recipe()
    assert (raw.output, raw.frames(1234), raw.bands, consistency.samples_for(raw, 1234)) == (
        "features/audio",
        1234,
        1,
        1234,
    )
    chunks = recipe(frame={"length": 512, "hop": 512, "last": "pad"})
    assert (chunks.output, chunks.frames(1025), chunks.bands) == ("features/frames", 3, 512)


def test_a_cepstrum_needs_a_logarithm(load: Load) -> None:
    data = changed("frontend/compress", ...)
    data["frontend"]["cepstrum"] = {"count": 13}
    with pytest.raises(ConfigError, match=r"frontend\.cepstrum: needs \[compress\]"):
        load(data)


def test_a_mapped_tap_that_isnt_listed_is_refused(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"artifacts\[0\]\.taps: 'model/relu' is not in model\.taps"):
        load(changed("model/taps", ["model/logits"]) | {"artifacts": [
            {**GOOD["artifacts"][0], "taps": {"model/logits": PORT, "model/relu": PORT}}]})  # fmt: skip


def test_another_number_of_frames_names_them_and_the_length_that_mends_it(load: Load) -> None:
    with pytest.raises(ConfigError) as e:
        load(changed("frontend/input/length", 16000))
    assert "takes 98 frames; 16000 samples give 97" in e.value.message
    assert e.value.hint == "set frontend.input.length = 16032"


@given(
    st.integers(1, 60),
    st.integers(1, 40),
    st.integers(1, 50),
    st.booleans(),
    st.sampled_from(("drop", "pad")),
    st.integers(1, 9),
)
def test_the_length_that_mends_it_is_the_fewest_samples_that_do(
    wanted: int, length: int, hop: int, center: bool, last: Any, more: int
) -> None:
    frontend = fe.Frontend(
        input=fe.Input(rate=100), frame=fe.Frame(length=length, hop=hop, center=center, last=last),
        window=fe.Window(name="hann"), spectrum=fe.Spectrum(n_fft=64),
    )  # fmt: skip
    needed = consistency.samples_for(frontend, wanted)
    if frontend.frames(1) > wanted:
        return  # centering alone gives more frames than that
    assert frontend.frames(needed) == wanted
    assert needed == 1 or frontend.frames(needed - 1) < wanted


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("compress/offset", NAN, "compress.offset: nan"),
        ("compress/offset", INF, "compress.offset: inf"),
        ("compress/floor", -INF, "compress.floor: -inf"),
        ("compress", {"kind": "db", "ref": NAN}, "compress.ref: nan"),
        ("compress", {"kind": "db", "amin": NAN}, "compress.amin: nan"),
        ("compress", {"kind": "db", "top_db": INF}, "compress.top_db: inf"),
        ("input/pre_emphasis", NAN, "input.pre_emphasis: nan"),
        ("filterbank/fmin", NAN, "filterbank.fmin: nan"),
        ("filterbank/fmax", INF, "filterbank.fmax: inf"),
        ("cepstrum", {"count": 13, "lifter": NAN}, "cepstrum.lifter: nan"),
        ("normalize", {"mean": [0.0] * 49 + [NAN], "spread": [1.0]}, "normalize.mean[49]: nan"),
        ("normalize", {"mean": [0.0], "spread": [INF]}, "normalize.spread[0]: inf"),
        ("quantize", {"dtype": "int8", "scale": NAN}, "quantize.scale: nan"),
        ("quantize", {"dtype": "int8", "scale": INF}, "quantize.scale: inf"),
    ],
)
def test_a_number_that_isnt_finite_is_refused_with_its_place(load: Load, path: str, value: Any, place: str) -> None:
    with pytest.raises(ConfigError) as e:
        load(changed(f"frontend/{path}", value))
    assert f"system.toml: frontend.{place} is not a number to compute with" in e.value.message
    assert e.value.hint == "write a finite number"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("input/rate", "input.rate"), ("input/length", "input.length"), ("frame/length", "frame.length"),
        ("frame/hop", "frame.hop"), ("window/length", "window.length"), ("spectrum/n_fft", "spectrum.n_fft"),
        ("filterbank/bands", "filterbank.bands"), ("filterbank", "filterbank.size"), ("cepstrum", "cepstrum.count"),
        ("quantize", "quantize.zero_point"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [2**31 + 1, 2**70, -(2**40)])
def test_a_size_beyond_reason_is_refused_with_its_place(load: Load, path: str, place: str, size: int) -> None:
    tables: dict[str, dict[str, Any]] = {
        "filterbank": {"kind": "pool", "size": size}, "cepstrum": {"count": size},
        "quantize": {"dtype": "int8", "scale": 1.0, "zero_point": size},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=rf"system\.toml: frontend\.{place}: {size} is more than 2147483648"):
        load(changed(f"frontend/{path}", tables.get(path, size)))


def test_the_largest_size_within_reason_is_read(load: Load) -> None:
    data = changed("frontend/input/length", 2**31)
    del data["model"]["shape"]
    assert load(data).frontend.input.length == 2**31


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([0, 50], "model.shape: 0 is not a number of frames"),
        ([-98, 50], "model.shape: -98 is not a number of frames"),
        ([2**31 + 1, 50], "model.shape: 2147483649 is not a number of frames"),
        ([2**70, 50], f"model.shape: {2**70} is not a number of frames"),
        ([NAN, 50], "model.shape[0]: expected `int | str`"),
        (["all", 50], "model.shape[0]: invalid enum value 'all'"),
        ([98, 2**70], f"the network takes {2**70} bands; the frontend gives 50"),
        ([98, -50], "the network takes -50 bands; the frontend gives 50"),
    ],
)
@pytest.mark.parametrize("length", [16032, None])
def test_a_shape_that_no_network_has_is_refused(load: Load, shape: list[Any], message: str, length: int | None) -> None:
    data = changed("model/shape", shape)
    data["frontend"]["input"] = {"rate": 16000} | ({"length": length} if length is not None else {})
    with pytest.raises(ConfigError) as e:
        load(data)
    assert message in e.value.message


@pytest.mark.parametrize("precision", ["float32", None], ids=["named", "by default"])
def test_two_files_of_one_format_and_precision_are_refused_with_both_places(load: Load, precision: str | None) -> None:
    twin = {**GOOD["artifacts"][0], "file": "twin.onnx"} | ({"precision": precision} if precision else {})
    with pytest.raises(ConfigError) as e:
        load(GOOD | {"artifacts": [*GOOD["artifacts"], twin]})
    assert "system.toml: artifacts[2]: onnx float32 stands at artifacts[0] already" in e.value.message
    assert "another precision" in (e.value.hint or "")
    told_apart = GOOD | {"artifacts": [*GOOD["artifacts"], twin | {"precision": "float32-folded"}]}
    assert load(told_apart).not_built[-1].endswith("/twin.onnx isn't there")


def test_any_number_of_frames_fits_a_network_that_takes_any(load: Load) -> None:
    data = changed("frontend/input/length", 20000)
    data["model"]["shape"] = ["any", 50]
    assert load(data).artifacts[0].shape == (None, 50)


def test_one_file_of_such_a_network_may_be_tied_to_a_number(load: Load) -> None:
    data = changed("model/shape", ["any", 50])
    assert load(data).artifacts[0].frames is None
    data["artifacts"][0]["frames"] = 98
    assert load(data).artifacts[0].frames == 98
    data["artifacts"][0]["frames"] = 0
    with pytest.raises(ConfigError, match=r"artifacts\[0\]\.frames: 0 is not a number of frames"):
        load(data)


def test_a_file_that_isnt_there_or_isnt_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no .*system\.toml"):
        system.load(tmp_path)
    (tmp_path / "system.toml").write_text("name = ")
    with pytest.raises(ConfigError, match="is not TOML"):
        system.load(tmp_path)
    (tmp_path / "system.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match="is not TOML"):
        system.load(tmp_path)


def test_systems_are_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Load) -> None:
    load(GOOD)
    folder = tmp_path / "reference_models" / "tiny"
    folder.mkdir(parents=True)
    for name in ("system.toml", "m.onnx"):
        (tmp_path / name).rename(folder / name)
    (folder / "deeper").mkdir()
    monkeypatch.chdir(folder / "deeper")
    assert system.root() == tmp_path
    assert system.names() == ["tiny"]
    assert [s.name for s in system.find([])] == ["tiny"]
    assert [s.name for s in system.find(["tiny"])] == ["tiny"]
    assert [s.name for s in system.find([str(folder)])] == ["tiny"]
    with pytest.raises(ConfigError, match="unknown system 'tinny'") as e:
        system.find(["tinny"])
    assert "did you mean 'tiny'?" in (e.value.hint or "")


def test_every_committed_system_loads(project: Path) -> None:
    for path in (project / "reference_models").glob("*/system.toml"):
        assert system.load(path).name == path.parent.name


def test_a_threshold_is_another_way_to_decide() -> None:
    """Two labels: the threshold and the largest element stand for their logits."""
    way = schema.Decision(rule="threshold", source="model/p", threshold=0.5)
    quiet, loud = np.full((3, 1), 0.25, np.float32), np.array([[0.125], [0.75], [0.5]], np.float32)
    assert way.logits(quiet).tolist() == [0.5, 0.25]
    assert way.logits(loud).tolist() == [0.5, 0.75]
    assert way.room(np.array([[0.1], [0.3]])).tolist() == [0.0, 0.3]
    usual = schema.Decision()
    assert usual.logits(loud) is loud
    assert usual.room(np.ones((1, 2))).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        ({"rule": "threshold"}, "belongs to the rule 'threshold', which needs it"),
        ({"threshold": 0.5}, "belongs to the rule 'threshold', which needs it"),
        ({"rule": "threshold", "threshold": 0.5}, "a threshold tells two labels apart"),
    ],
)
def test_a_threshold_needs_its_number_and_two_labels(load: Load, decision: dict[str, Any], message: str) -> None:
    data = copy.deepcopy(GOOD) | {"labels": ["a", "b", "c"], "decision": {"source": "model/logits", **decision}}
    with pytest.raises(ConfigError, match=message):
        load(data)


STATE = [{"name": "h", "tap": "model/relu", "shape": [1, 4]}]
TAPS = {"model/relu": {"name": "hN", "layout": "NC"}, "model/logits": {"name": "y", "layout": "NC"}}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"state": STATE}, "maps no 'model/relu', where 'h' comes out"),
        ({"state": STATE, "taps": TAPS, "format": "torch-export"}, "torch-export files are fed with features only"),
        ({"constants": {"sr": 1}, "format": "tflite"}, "tflite files are given no numbers by name"),
        ({"constants": {"sr": 1}, "input": {"name": "x", "layout": "N(TF)"}}, "a flattened input can't be cut"),
        ({"reset": "forget", "format": "torchscript"}, "takes so many frames at a time"),
        ({"reset": "forget", "frames": 1}, "onnx files have no methods"),
        ({"context": 64, "frames": 2}, "for a file that takes one frame at a time"),
    ],
)
def test_a_memory_that_the_file_cannot_have_is_refused(load: Load, more: dict[str, Any], message: str) -> None:
    data = copy.deepcopy(GOOD)
    data["artifacts"] = [data["artifacts"][0] | more]
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(data)
