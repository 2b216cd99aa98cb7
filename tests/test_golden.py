from __future__ import annotations

import copy
import dataclasses
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from parity import audio, golden, packed, record
from parity import frontend as fe
from parity.cli.golden import golden as golden_commands
from parity.errors import GoldenError
from parity.expected import bounds_of, features_of
from parity.protocols import Array, Artifact, Port
from parity.schema import Decision
from parity.signals import Signal, render
from parity.system import System
from parity.taps import REGENERATED_TAPS

FRONTEND = fe.Frontend(
    input=fe.Input(rate=8000, length=800), frame=fe.Frame(length=64, hop=32), window=fe.Window(name="hann"),
    spectrum=fe.Spectrum(n_fft=64), filterbank=fe.Mel(bands=8, fmax=4000.0, scale="htk", norm="none"),
    compress=fe.Log(base="10", offset=1e-6),
)  # fmt: skip
ARTIFACT = Artifact(
    system="tiny", format="onnx", precision="float32", path="m.onnx", sha256="0" * 64, shape=(24, 8),
    input=Port(name="x", layout="N1TF"), taps={"model/logits": Port(name="y", layout="NC")},
)  # fmt: skip
SIGNALS = {
    "a": Signal(kind="tone", rate=8000, length=800),
    "b b": Signal(kind="white", rate=8000, length=700, level_dbfs=-20.0),
}

NAMES = ("a.wav", "b b.wav")
ZEROS = np.zeros((24, 8), np.float32)


def tiny(folder: Path, name: str = "tiny", frontend: fe.Frontend = FRONTEND) -> System:
    return System(
        name=name, folder=folder, description="", frontend=frontend, labels=("no", "yes"), taps=("model/logits",),
        decision=Decision(), reference=None, artifacts=(ARTIFACT,), not_built=(),
    )  # fmt: skip


def sounds(folder: Path) -> Path:
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for name, signal in SIGNALS.items():
        soundfile.write(folder / "clips" / f"{name}.wav", render(signal), signal.rate, subtype="FLOAT")
    return folder / "clips"


def made(system: System, clips: Path, root: Path, shift: float = 0.0) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A manifest and its files, as `parity golden record` makes them; logits move by `shift`."""
    what = record.Recording(system=system, folder=clips, root=root)
    made = record._Set()
    for i, path in enumerate(audio.find(clips)):
        clip = audio.read(path, audio.name_of(path, clips), system.frontend)
        classes, _ = bounds_of(clip, system.frontend, ("float32", "float64-rounded"))
        record._add(made, what, path, clip, classes, {"model/logits": np.array([i + shift, 2.5])}, {})
    return record._manifest(what, "torch", ARTIFACT, {"torch": "2"}, {}, made), made.files


def recorded(system: System, clips: Path, root: Path, shift: float = 0.0) -> golden.GoldenSet:
    golden.commit(root, system.name, *made(system, clips, root, shift))
    return golden.load(root, system)


@pytest.fixture
def kit(tmp_path: Path) -> tuple[System, Path, Path]:
    return tiny(tmp_path), sounds(tmp_path), tmp_path / "golden"


def logits(found: golden.GoldenSet) -> list[float]:
    return [float(found.read(e).model["model/logits"][0]) for e in found.clips]


def test_what_was_recorded_is_read_again_and_verifies(kit: tuple[System, Path, Path]) -> None:
    clips = kit[1]
    found = recorded(*kit)
    assert list(found.verify()) == []
    assert [e["name"] for e in found.clips] == ["a.wav", "b b.wav"]
    assert logits(found) == [0.0, 1.0]
    for entry in found.clips:
        expected = found.read(entry)
        exact, fed = features_of(audio.read(clips / entry["name"], entry["name"], FRONTEND), FRONTEND)
        np.testing.assert_array_equal(expected.reference, fed)
        assert expected.features.keys() == exact.keys() == set(FRONTEND.taps)
        for tap, x in exact.items():
            kept = expected.features[tap]
            assert np.all(kept.lo <= x.lo), tap
            assert np.all(kept.hi >= x.hi), tap
            room = np.maximum(x.hi - x.lo, 1e-30)
            assert np.all(kept.hi - kept.lo <= 1.3 * room + 2.0**-22 * np.abs(x.value)), f"{tap}: stored much wider"


@pytest.mark.parametrize("chunk", [None, fe.Frame(length=100, hop=100)])
def test_raw_audio_is_recorded_and_read_again(chunk: fe.Frame | None, tmp_path: Path) -> None:
    raw = fe.Frontend(input=fe.Input(rate=8000), frame=chunk)
    found = recorded(tiny(tmp_path, frontend=raw), sounds(tmp_path), tmp_path / "golden")
    assert list(found.verify()) == []
    for entry, signal in zip(found.clips, SIGNALS.values(), strict=True):
        fed = found.read(entry, frozenset()).reference
        np.testing.assert_array_equal(fed.reshape(-1), render(signal))
        assert fed.shape == ((len(fed), 100) if chunk else (signal.length,))


def test_the_same_recording_gives_the_same_bytes(kit: tuple[System, Path, Path]) -> None:
    assert made(*kit)[1] == made(*kit)[1]


def test_the_manifest_says_what_every_array_is(kit: tuple[System, Path, Path]) -> None:
    found = recorded(*kit)
    assert found.manifest["frontend_digest"] == FRONTEND.digest
    arrays = found.clips[0]["features"]["arrays"]
    assert {"dtype": "float32", "shape": [24, 8], "unit": "log10(FS²)"}.items() <= arrays["features/compressed"].items()
    assert not arrays.keys() & {"features/audio", "features/frames", "features/windowed"}
    assert set(found.clips[0]["regenerated"]) == {"features/audio", "features/frames", "features/windowed"}


class Crash(BaseException):
    """The power is gone: nothing catches it."""


def crashing(real: Callable[..., Any], at: int) -> Callable[..., Any]:
    calls = iter(range(10_000))

    def call(*arguments: Any, **more: Any) -> Any:
        if next(calls) == at:
            raise Crash
        return real(*arguments, **more)

    return call


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_crash_at_any_step_leaves_one_whole_set(
    step: str, kit: tuple[System, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    system, clips, root = kit
    manifest, files = made(system, clips, root, shift=7.0)
    for k in range(100):
        recorded(*kit)
        with monkeypatch.context() as m:
            m.setattr(os, step, crashing(getattr(os, step), k))
            try:
                golden.commit(root, "tiny", manifest, files)
                crashed = False
            except Crash:
                crashed = True
        found = golden.load(root, system)
        assert list(found.verify()) == [], f"crashed at {step} {k}"
        assert logits(found) == ([0.0, 1.0] if crashed else [7.0, 8.0]), f"crashed at {step} {k}"
        assert not list(root.rglob("*.part"))
        if not crashed:
            break
    assert k >= 3, "files and manifest are written one by one"


def test_a_crash_while_old_files_are_taken_away_leaves_the_new_set_whole(
    kit: tuple[System, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    system, clips, root = kit
    recorded(*kit)
    real = Path.unlink

    def crash(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".npz":
            raise Crash
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", crash)
    with pytest.raises(Crash):
        recorded(system, clips, root, shift=7.0)
    monkeypatch.undo()
    found = golden.load(root, system)
    assert list(found.verify()) == []
    assert logits(found) == [7.0, 8.0]


def test_what_no_manifest_names_goes_and_what_another_system_names_stays(
    kit: tuple[System, Path, Path], tmp_path: Path
) -> None:
    system, clips, root = kit
    recorded(*kit)
    other = recorded(tiny(tmp_path, "other"), clips, root)
    before = {p for p in root.rglob("*.npz") if "tiny" not in p.parts}
    recorded(system, clips, root, shift=7.0)
    assert list(other.verify()) == []
    assert {p for p in root.rglob("*.npz") if "tiny" not in p.parts} == before, "features are shared by one recipe"
    assert len(list((root / "tiny").glob("*.npz"))) == 2
    (root / "other" / "manifest.json").write_text("{")
    recorded(system, clips, root, shift=8.0)  # what the damaged set needs is not taken away
    assert before <= set(root.rglob("*.npz"))


@pytest.mark.parametrize("part", ["clip", "features", "model"])
def test_an_altered_byte_is_an_error_that_names_the_file(part: str, kit: tuple[System, Path, Path]) -> None:
    found = recorded(*kit)
    entry = found.clips[0]
    path = found.root / entry[part]["file"]
    data = bytearray(path.read_bytes())
    for i in range(0, len(data), max(1, len(data) // 7)):
        path.write_bytes(bytes([*data[:i], data[i] ^ 1, *data[i + 1 :]]))
        with pytest.raises(GoldenError, match=r"was altered") as e:
            found.read(entry)
        assert path.name in e.value.message
    assert any("was altered" in problem for problem in found.verify())
    path.unlink()
    with pytest.raises(GoldenError, match="can't be read: No such file"):
        found.read(entry)


@pytest.mark.parametrize("file", ["../secret.npz", "/etc/hostname", "tiny/../../secret.npz"])
def test_a_file_outside_the_set_is_never_opened(file: str, kit: tuple[System, Path, Path]) -> None:
    found = recorded(*kit)
    (found.root.parent / "secret.npz").write_bytes(b"x")
    with pytest.raises(GoldenError, match="lies outside"):
        found.file({"file": file, "sha256": golden.sha256(b"x")})


def test_a_link_that_leads_outside_is_never_opened(kit: tuple[System, Path, Path]) -> None:
    found = recorded(*kit)
    (found.root.parent / "secret.npz").write_bytes(b"x")
    (found.root / "link.npz").symlink_to(found.root.parent / "secret.npz")
    with pytest.raises(GoldenError, match="lies outside"):
        found.file({"file": "link.npz", "sha256": golden.sha256(b"x")})


@pytest.mark.parametrize(
    ("stage", "values", "text"),
    [
        ("window", {"periodic": False}, "frontend.window.periodic was True, is False"),
        ("compress", {"offset": 1e-5}, "frontend.compress.offset was 1e-06, is 1e-05"),
        ("filterbank", None, "frontend.filterbank.bands was 8, is None"),
    ],
)
def test_another_recipe_names_the_setting(
    stage: str, values: dict[str, Any] | None, text: str, kit: tuple[System, Path, Path], tmp_path: Path
) -> None:
    recorded(*kit)
    changed = dataclasses.replace(getattr(FRONTEND, stage), **values) if values is not None else None
    with pytest.raises(GoldenError, match="of another recipe") as e:
        golden.load(kit[2], tiny(tmp_path, frontend=dataclasses.replace(FRONTEND, **{stage: changed})))
    assert text in e.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no goldens of tiny"), ("", "can't be read"), ("[]", "can't be read"), ("{}", "can't be read"),
        ('{"format": 99}', "has format 99, this parity reads 2"), ("[" * 100_000, "can't be read"),
        ('{"format": 2, "clips": [{"name": "a"}]}', "can't be read"),
    ],
)  # fmt: skip
def test_a_manifest_that_isnt_one(text: str | None, message: str, kit: tuple[System, Path, Path]) -> None:
    system, _, root = kit
    recorded(*kit)
    path = root / "tiny" / "manifest.json"
    path.write_text(text) if text is not None else path.unlink()
    with pytest.raises(GoldenError, match=message) as e:
        golden.load(root, system)
    assert e.value.hint == f"record them: parity golden record --system {system.folder} --audio DIR"


def changed(found: golden.GoldenSet, change: Callable[[dict[str, Any]], Any]) -> golden.GoldenSet:
    """The set with another manifest."""
    manifest = copy.deepcopy(dict(found.manifest))
    change(manifest)
    return dataclasses.replace(found, manifest=manifest)


def rewritten(found: golden.GoldenSet, part: str, change: Callable[[dict[str, Array]], Any]) -> golden.GoldenSet:
    """The set with other arrays in a file of its first clip; every digest is right."""
    arrays = packed.unpack(found.file(found.clips[0][part]), Path(part))
    change(arrays)
    data = packed.pack(arrays)
    (found.root / found.clips[0][part]["file"]).write_bytes(data)
    said = {"sha256": golden.sha256(data), "arrays": golden.describe_arrays(arrays, {})}
    return changed(found, lambda m: m["clips"][0][part].update(said))


def test_an_empty_set_does_not_verify(kit: tuple[System, Path, Path]) -> None:
    assert list(changed(recorded(*kit), lambda m: m["clips"].clear()).verify()) == ["it has no clips"]


@pytest.mark.parametrize(
    ("part", "change", "problem"),
    [
        ("features", lambda a: a.pop("features/spectrum"), "no features/spectrum"),
        ("features", lambda a: a.pop("features/filterbank:above"), "no features/filterbank:above"),
        ("features", lambda a: a.pop("features/compressed"), "no features/compressed"),
        ("features", lambda a: a.clear(), "no features/spectrum"),
        ("features", lambda a: a.update({"features/cepstrum": ZEROS, "features/cepstrum:above": ZEROS}),
         "features/cepstrum, which its recipe doesn't store"),
        ("features", lambda a: a.update({"features/frames": ZEROS}),
         "features/frames, which its recipe doesn't store"),
        ("features", lambda a: a.update({"model/logits": ZEROS}), "model/logits, which its recipe doesn't store"),
        ("model", lambda a: a.pop("model/logits"), "no model/logits, which decides"),
        ("model", lambda a: a.update({"model/other": a.pop("model/logits")}), "no model/logits, which decides"),
    ],
)  # fmt: skip
def test_a_golden_that_lacks_arrays_or_has_others_is_refused_though_every_digest_is_right(
    part: str, change: Callable[[dict[str, Array]], Any], problem: str, kit: tuple[System, Path, Path]
) -> None:
    found = rewritten(recorded(*kit), part, change)
    assert list(found.verify()) == [f"a.wav: the golden of a.wav holds {problem}"]
    with pytest.raises(GoldenError, match=re.escape(f"the golden of a.wav holds {problem}")) as e:
        found.read(found.clips[0])
    assert e.value.hint == golden.how_to_record(found.root, found.system)
    found.read(found.clips[1])


def test_more_layers_than_the_decision_needs_are_no_problem(kit: tuple[System, Path, Path]) -> None:
    assert list(rewritten(recorded(*kit), "model", lambda a: a.update({"model/relu": ZEROS})).verify()) == []


@pytest.mark.parametrize(
    "decision",
    [None, {"label": "no", "margin": 2.5}, {"label": "yes", "margin": 2.4999}, {"label": "yes"}, "yes", ...],
    ids=str,
)
def test_a_recorded_decision_must_be_what_the_logits_decide(decision: Any, kit: tuple[System, Path, Path]) -> None:
    def change(manifest: dict[str, Any]) -> None:
        entry = manifest["clips"][0]
        if decision is ...:
            del entry["decision"]
        else:
            entry["decision"] = decision

    said = None if decision is ... else decision
    assert list(changed(recorded(*kit), change).verify()) == [
        f"a.wav: its decision is recorded as {said}; its logits decide 'yes' by 2.5"
    ]


def test_other_logits_than_those_that_decided_are_noticed(kit: tuple[System, Path, Path]) -> None:
    found = rewritten(recorded(*kit), "model", lambda a: a.update({"model/logits": np.float32([3.0, 2.5])}))
    assert list(found.verify()) == [
        "a.wav: its decision is recorded as {'label': 'yes', 'margin': 2.5}; its logits decide 'no' by 0.5"
    ]


@pytest.mark.parametrize("logits", [[np.nan, 2.5], [0.0, np.inf], [0.0, 2.5, 1.0], [2.5]], ids=str)
def test_logits_that_decide_nothing_do_not_verify(logits: list[float], kit: tuple[System, Path, Path]) -> None:
    found = rewritten(recorded(*kit), "model", lambda a: a.update({"model/logits": np.array(logits, np.float32)}))
    assert list(found.verify()) == ["a.wav: its logits don't fit the manifest's labels, or aren't finite"]


def test_labels_that_do_not_fit_the_logits_do_not_verify(kit: tuple[System, Path, Path]) -> None:
    problems = list(changed(recorded(*kit), lambda m: m["labels"].append("maybe")).verify())
    assert problems == [f"{n}: its logits don't fit the manifest's labels, or aren't finite" for n in NAMES]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda r: r.pop("features/frames"), "the manifest has no digest of features/audio, features/frames"),
        (lambda r: r.clear(), "the manifest has no digest of features/audio, features/frames"),
        (lambda r: r.update({"features/spectrum": "0" * 64}), "the manifest has no digest of features/audio"),
        (lambda r: r.update({"features/frames": "0" * 64}), "the oracle makes another features/frames"),
    ],
)
def test_every_stage_that_only_a_digest_keeps_must_have_one(
    change: Callable[[dict[str, str]], Any], problem: str, kit: tuple[System, Path, Path]
) -> None:
    (said,) = changed(recorded(*kit), lambda m: change(m["clips"][0]["regenerated"])).verify()
    assert said.startswith(f"a.wav: {problem}")


@pytest.fixture
def project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one's own, seen from somewhere inside."""
    here = tmp_path / "project" / "notes"
    here.mkdir(parents=True)
    (here.parent / "reference_models").mkdir()
    monkeypatch.chdir(here)
    return here.parent


@pytest.mark.parametrize(
    ("system", "root", "command"),
    [
        ("reference_models/folder", "golden", "--system folder"),
        ("reference_models/folder", "other", "--system folder --audio DIR --out {}/other"),
        ("reference_models/folder", "two words", "--system folder --audio DIR --out '{}/two words'"),
        ("mine", "mine/golden", "--system {}/mine --audio DIR"),
        ("my models", "my models/golden", "--system '{}/my models' --audio DIR"),
        ("mine", "golden", "--system {0}/mine --audio DIR --out {0}/golden"),
        ("deeper/mine", "deeper/mine/golden", "--system {}/deeper/mine --audio DIR"),
    ],
)
def test_the_command_that_records_can_be_typed_as_it_stands(
    system: str, root: str, command: str, project_folder: Path
) -> None:
    """A system's name may be another than its folder's, which is what --system takes."""
    said = golden.how_to_record(project_folder / root, tiny(project_folder / system))
    assert said == f"parity golden record {command.format(project_folder)}"
    options = golden_commands.commands["record"].make_context("record", shlex.split(said)[3:]).params
    assert options["systems"] == (shlex.split(command.format(project_folder))[1],)
    assert options["out"] == (project_folder / root if "--out" in command else None)


def test_relative_places_are_the_same_places(project_folder: Path) -> None:
    inside = tiny(Path("../reference_models/folder"))
    assert golden.how_to_record(Path("../golden"), inside) == "parity golden record --system folder"
    assert golden.how_to_record(Path("mine"), tiny(Path("mine"))) == (
        "parity golden record --system mine --audio DIR --out mine"
    )


@pytest.mark.parametrize("older", [False, True])
def test_a_golden_gives_bounds_of_a_rounded_transform(older: bool, tmp_path: Path, monkeypatch: Any) -> None:
    """As recorded; worked out around the recorded values where an older golden has none."""
    clips = sounds(tmp_path)
    if older:
        pack = packed.pack_features
        monkeypatch.setattr(packed, "pack_features", lambda intervals, rounded=None: pack(intervals))
    opened = recorded(tiny(tmp_path / "tiny"), clips, tmp_path / "golden")
    for entry in opened.clips:
        now, _ = bounds_of(audio.read(clips / entry["name"], entry["name"], FRONTEND), FRONTEND, ("float64-rounded",))
        assert opened.read(entry).rounded == {}
        read = opened.read(entry, rounded=True)
        for tap, right in now["float64-rounded"].items():
            kept = read.interval(tap, "float64-rounded")
            np.testing.assert_array_equal(kept.value, read.features[tap].value)
            if tap in REGENERATED_TAPS:
                continue
            assert np.all((kept.lo <= right.lo) & (right.hi <= kept.hi)), tap
            room = right.hi - right.lo
            assert np.all(kept.hi - kept.lo <= 1.3 * room + 2.0**-22 * np.abs(right.value) + 1e-44), tap


def test_file_names_are_safe_and_tell_contents_apart() -> None:
    name = golden.slug("../weird dir/ü?.wav", b"one", ".npz")
    assert "/" not in name
    assert not name.startswith(".")
    assert name != golden.slug("../weird dir/ü?.wav", b"two", ".npz")
    assert len(golden.slug("x" * 500, b"", ".npz")) < 100
    assert golden.slug("....wav", b"", ".npz").startswith("clip-")
