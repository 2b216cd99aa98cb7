"""Goldens for firmware and MATLAB: each form is read back by what will read it, and holds the golden's own bytes."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from parity import c_source, golden, golden_export, packed, system
from parity.bounds.features import Interval
from parity.compare import compare
from parity.errors import MissingExtra
from parity.golden import GoldenSet
from parity.protocols import Array
from tests.plugins_for_tests import rig
from tests.test_c_source import needs_cc, printed

NAME = "tiny-conv"
CLIPS = ("chirp.flac", "up-en-gb-scotland-f3.flac")  # with inner layers; one shorter than the recipe's second


@pytest.fixture(scope="module")
def goldens(tmp_path_factory: pytest.TempPathFactory) -> GoldenSet:
    root = rig.goldens(tmp_path_factory.mktemp("golden"), CLIPS, NAME)
    return golden.load(root, system.load(rig.MODELS / NAME))


def right(goldens: GoldenSet) -> dict[str, dict[str, Array]]:
    """Clip -> tap -> the array as it stands in the golden's own file, in its own type."""
    out = {}
    for entry in goldens.clips:
        stored = golden.arrays_of(goldens, entry) | packed.unpack(goldens.file(entry["model"]), Path("model"))
        kept = {t: a for t, a in stored.items() if ":" not in t}
        kept["features/quantized"] = kept["features/quantized"].astype(np.uint8)
        out[entry["name"]] = kept
    return out


MAIN = """\
#include "tiny_conv.h"
#include <stdio.h>
#include <string.h>
static size_t width(const char *dtype) {
  return strcmp(dtype, "uint8") == 0 ? 1 : strcmp(dtype, "int16") == 0 ? 2 : 4;
}
int main(void) {
  size_t i, j;
  for (i = 0; i < tiny_conv_clip_count; i++) {
    const parity_clip *c = &tiny_conv_clips[i];
    printf("%s %lu %s %lu %s %.17g\\n", c->name, c->rate, c->dtype, (unsigned long)c->samples,
           tiny_conv_labels[c->label], c->margin);
    fwrite(c->audio, width(c->dtype), c->samples, stdout);
    for (j = 0; j < c->tap_count; j++) {
      const parity_tap *t = &c->taps[j];
      printf("\\n%s %s %lu %lu %lu %lu %d\\n", t->tap, t->dtype, (unsigned long)t->dims, (unsigned long)t->shape[0],
             (unsigned long)t->shape[1], (unsigned long)t->count, t->lo != NULL);
      fwrite(t->value, width(t->dtype), t->count, stdout);
      if (t->lo != NULL) {
        fwrite(t->lo, width(t->dtype), t->count, stdout);
        fwrite(t->hi, width(t->dtype), t->count, stdout);
      }
    }
    printf("\\n");
  }
  return 0;
}
"""


@needs_cc
def test_c_compiles_and_prints_the_bytes_of_the_golden(goldens: GoldenSet, tmp_path: Path) -> None:
    golden_export.export(goldens, "c", tmp_path / "c")
    (tmp_path / "c" / "main.c").write_text(MAIN)
    got, at = printed(tmp_path, *sorted((tmp_path / "c").glob("*.c"))), 0
    held = right(goldens)
    cases = list(golden_export.cases(goldens))
    assert [c.name for c in cases] == sorted(CLIPS)

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return got[at - size : at]

    def line() -> str:
        return take(got.index(b"\n", at) + 1 - at).decode().strip()

    for case, entry in zip(cases, goldens.clips, strict=True):
        samples = rig.clip(case.name.removesuffix(".flac"))
        decision = entry["decision"]
        assert line() == f"{case.name} 16000 int16 {len(samples)} {decision['label']} {decision['margin']:.17g}"
        assert take(2 * len(samples)) == (samples * 32768.0).astype(np.int16).tobytes()
        for v in case.vectors:
            sides = (*v.value.shape, 1)[:2]
            take(1)
            bounded = int(v.tap.startswith("features/"))
            assert line() == f"{v.tap} {v.value.dtype} {v.value.ndim} {sides[0]} {sides[1]} {v.value.size} {bounded}"
            value = take(v.value.nbytes)
            assert value == v.value.tobytes()
            assert value == held[case.name].get(v.tap, v.value).tobytes()
            assert not bounded or take(2 * v.value.nbytes) == v.bounds["lo"].tobytes() + v.bounds["hi"].tobytes()
        take(1)
        assert held[case.name].keys() <= {v.tap for v in case.vectors}
    assert at == len(got)


def test_npy_files_are_the_golden_and_the_index_names_them(goldens: GoldenSet, tmp_path: Path) -> None:
    golden_export.export(goldens, "npy", tmp_path / "npy")
    index = json.loads((tmp_path / "npy" / "index.json").read_text(encoding="utf-8"))
    assert index["labels"] == ["silence", "unknown", "yes", "no"]
    held = right(goldens)
    assert {c["name"] for c in index["clips"]} == set(held)
    for clip in index["clips"]:
        for variable, what in clip["arrays"].items():
            got = np.load(tmp_path / "npy" / what["file"], allow_pickle=False)
            assert (got.dtype.name, list(got.shape)) == (what["dtype"], what["shape"])
            assert golden.sha256(got.tobytes()) == what["sha256"]
            tap = variable.replace("_", "/", 1)
            assert tap not in held[clip["name"]] or got.tobytes() == held[clip["name"]][tap].tobytes()
        assert {t.replace("/", "_") for t in held[clip["name"]]} < clip["arrays"].keys()
        files = {Path(a["file"]).name for a in clip["arrays"].values()}
        folder = tmp_path / "npy" / Path(next(iter(clip["arrays"].values()))["file"]).parent
        assert {p.name for p in folder.iterdir()} == files


def test_matlab_files_are_read_back_by_scipy_and_are_the_same_bytes_again(goldens: GoldenSet, tmp_path: Path) -> None:
    loadmat = pytest.importorskip("scipy.io").loadmat
    for folder in ("a", "b"):
        golden_export.export(goldens, "mat", tmp_path / folder)
    held = right(goldens)
    index = json.loads((tmp_path / "a" / "index.json").read_text(encoding="utf-8"))
    for clip, entry in zip(index["clips"], goldens.clips, strict=True):
        file = tmp_path / "a" / clip["file"]
        assert file.read_bytes() == (tmp_path / "b" / clip["file"]).read_bytes()
        got = loadmat(file)
        assert got["label"].item() == entry["decision"]["label"]
        assert got["margin"].item() == entry["decision"]["margin"]
        assert got["rate"].item() == 16000
        assert got["samples"].dtype == np.int16
        for tap, a in held[clip["name"]].items():
            found = got[tap.replace("/", "_")]
            assert found.dtype == a.dtype
            np.testing.assert_array_equal(found.reshape(a.shape), a)


@pytest.fixture
def alike(goldens: GoldenSet, tmp_path: Path) -> GoldenSet:
    """The same set with two taps whose letters and digits are the same."""
    renamed = {"model/relu": "model/fc-1", "model/logits": "model/fc_1"}
    root = shutil.copytree(goldens.root, tmp_path / "alike")
    manifest = copy.deepcopy(dict(goldens.manifest))
    for entry in manifest["clips"]:
        path = root / entry["model"]["file"]
        held = packed.unpack(path.read_bytes(), path)
        data = packed.pack({renamed.get(t, t): a for t, a in held.items()})
        path.write_bytes(data)
        entry["model"]["sha256"] = golden.sha256(data)
    taps = tuple(renamed.get(t, t) for t in goldens.system.taps)
    return GoldenSet(root, dataclasses.replace(goldens.system, taps=taps), manifest)


@needs_cc
def test_taps_that_differ_in_a_sign_only_stay_apart(alike: GoldenSet, tmp_path: Path) -> None:
    loadmat = pytest.importorskip("scipy.io").loadmat
    for form in ("npy", "mat", "c"):
        golden_export.export(alike, form, tmp_path / form)  # type: ignore[arg-type]
    listed, layers = json.loads((tmp_path / "npy" / "index.json").read_text(encoding="utf-8")), 0
    for clip, entry in zip(listed["clips"], alike.clips, strict=True):
        held = {n: a for n, a in packed.unpack(alike.file(entry["model"]), Path("model")).items() if ":" not in n}
        by_tap = {what["tap"]: (name, what["file"]) for name, what in clip["arrays"].items() if "tap" in what}
        assert held.keys() == by_tap.keys() & set(alike.system.taps)
        mat = loadmat(tmp_path / "mat" / f"{Path(clip['arrays']['samples']['file']).parent}.mat")
        layers += {"model/fc-1", "model/fc_1"} <= held.keys()
        for tap, a in held.items():
            name, file = by_tap[tap]
            np.testing.assert_array_equal(np.load(tmp_path / "npy" / file), a)
            np.testing.assert_array_equal(mat[name].reshape(a.shape), a)
    (tmp_path / "c" / "main.c").write_text(MAIN)
    printed_taps = printed(tmp_path, *sorted((tmp_path / "c").glob("*.c")))
    assert printed_taps.count(b"\nmodel/fc-1 ") == printed_taps.count(b"\nmodel/fc_1 ") == layers > 0


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_bounds_of_an_export_admit_what_the_golden_admits_and_nothing_else(dtype: str) -> None:
    random = np.random.default_rng(0)
    value = random.uniform(0.0, 200.0, 4000).astype(dtype).astype(np.float64)
    x = Interval(value, value - random.uniform(0.0, 3e-5, 4000) * value, value + random.uniform(0.0, 3e-5, 4000))
    ends = golden_export.inside(x, dtype)
    for i in range(400):
        near = np.arange(-3, 4) if dtype == "uint8" else np.arange(-300, 300, 7) * np.spacing(np.float32(value[i]))
        for c in (value[i] + near).clip(0, 255).astype(dtype):
            judged = compare(c[None], x.value[i : i + 1], x.lo[i : i + 1], x.hi[i : i + 1], dtype)
            assert (judged.outcome == "pass") == bool(ends["lo"][i] <= c <= ends["hi"][i]), (i, c)


def test_without_scipy_it_says_what_to_install(
    goldens: GoldenSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "scipy" else found(n, *a))
    with pytest.raises(MissingExtra, match="SciPy") as error:
        golden_export.export(goldens, "mat", tmp_path / "mat")
    assert error.value.hint == "pip install 'parity[mat]'"
    assert not (tmp_path / "mat").exists()


@pytest.mark.slow
def test_the_commands(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    done = rig.parity("golden", "export", "--system", NAME, "--format", "npy", "--clip", "chirp.flac", *out)
    assert done.returncode == 0, done.stderr
    assert f"{NAME}: 1 clip in" in done.stdout
    again = ("golden", "export", "--system", NAME, "--format", "c")
    rig.refused(rig.parity(*again, *out), 3, "is not an empty folder", "--out")
    rig.refused(rig.parity(*again, "--out", "/proc/none"), 3, "can't be written")
    rig.refused(rig.parity(*again, "--clip", "chirp.flak"), 3, "no clip 'chirp.flak'", "did you mean 'chirp.flac'")
    rig.refused(rig.parity(*again, "--golden", tmp_path), 5, "no goldens of tiny-conv")
    rig.refused(rig.parity("golden", "export", "--system", NAME, "--format", "csv"), 3, "csv")
    rig.refused(rig.parity("golden", "export", "--system", NAME), 3, "--format")
    model = rig.parity("models", "export", NAME, "--format", "c", "--out", tmp_path / "model")
    assert model.returncode == 0, model.stderr
    rig.refused(rig.parity("models", "export", NAME, "--format", "c", "--fast"), 3, "--fast")
    rig.refused(rig.parity("models", "export", NAME, "--format", "c", "--out", "/proc/none"), 3, "can't be written")


def test_files_of_streams_go_to_firmware_too_and_no_name_says_model_twice(tmp_path: Path) -> None:
    made = golden_export.models(system.load(rig.MODELS / "logmel-gru"), tmp_path / "gru")
    assert "logmel_gru_stream_model.h" in {p.name for p in made}
    folder = rig.system(tmp_path / "mine", ('file = "commands-cnn.tflite"', 'file = "model.tflite"'), formats=())
    (folder / "model.tflite").write_bytes((rig.SYSTEM / "commands-cnn.tflite").read_bytes())
    made = golden_export.models(system.load(folder), tmp_path / "c")
    assert sorted(p.name for p in made) == ["commands_cnn_model.c", "commands_cnn_model.h"]


@needs_cc
def test_the_system_s_model_as_c_is_its_file_byte_for_byte(tmp_path: Path) -> None:
    found = system.load(rig.MODELS / NAME)
    written = golden_export.models(found, tmp_path)
    files = {Path(a.path).stem: Path(a.path) for a in found.artifacts if a.format == "tflite"}
    assert len(written) == 2 * len(files)
    assert "tiny_conv_int8_model.c" in {p.name for p in written}
    for name, path in zip(c_source.identifiers(list(files)), files.values(), strict=True):
        (tmp_path / "main.c").write_text(
            f'#include "{name}_model.h"\n#include <stdio.h>\n'
            f"int main(void) {{ fwrite(g_{name}_model, 1, g_{name}_model_len, stdout); return 0; }}\n"
        )
        assert printed(tmp_path, tmp_path / "main.c", tmp_path / f"{name}_model.c") == path.read_bytes()
