"""Recording goldens: what is written, what proves it, and what is left where it can't be done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity import golden as goldens
from parity import packed, record, registry
from parity import system as systems
from parity.bounds import networks
from parity.errors import AnchorError, AudioError, ConfigError, ModelError, NothingCompared
from parity.protocols import Array
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes


class Recorder:
    """Workers, and commands-cnn's float32 file to record from: the bounds of all its files cost five times as much."""

    def __init__(self, local: LocalTarget, system: Path) -> None:
        self.local, self.system = local, system

    def __call__(self, folder: Path, root: Path, of: Path | None = None, **more: Any) -> dict[str, Any]:
        wanted: dict[str, Any] = {"anchor": "librosa", "runtime": "onnxrt", "command": "parity golden record"}
        what = record.Recording(system=systems.load(of or self.system), folder=folder, root=root, **(wanted | more))
        _, manifest = record.record(what, self.local, lambda *_: None)
        return manifest


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    with rig.target() as workers:
        yield Recorder(workers, rig.system(tmp_path_factory.mktemp("system") / "commands-cnn"))


def spoken(folder: Path) -> Path:
    for word in ("yes-en-us-f2", "no-en-gb-m3"):
        rig.wav(folder / f"{word}.wav", rig.clip(word))
    return folder


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    return spoken(tmp_path / "wavs")


@pytest.fixture(scope="module")
def recorded(make: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of `wavs`; not to be changed."""
    folder = tmp_path_factory.mktemp("recorded")
    make(spoken(folder / "wavs"), folder / "golden")
    return folder / "golden"


def root_of(old: bool, recorded: Path, tmp_path: Path) -> Path:
    """Where to record to: an old set, or nothing yet."""
    return shutil.copytree(recorded, tmp_path / "golden") if old else tmp_path / "golden"


def everything(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def arrays(root: Path, entry: dict[str, Any], part: str) -> dict[str, Array]:
    return packed.unpack((root / entry[part]["file"]).read_bytes(), root)


def test_what_is_recorded_is_whole_and_can_be_read_again(make: Recorder, wavs: Path, tmp_path: Path) -> None:
    root = tmp_path / "golden"
    manifest = make(wavs, root, rig.SYSTEM)
    opened = goldens.load(root, systems.load(rig.SYSTEM))
    assert opened.manifest == rig.plain(manifest)
    assert list(opened.verify()) == []
    assert [e["name"] for e in opened.clips] == ["no-en-gb-m3.wav", "yes-en-us-f2.wav"]
    for entry in opened.clips:
        assert entry["decision"]["label"] == entry["name"].split("-")[0]
        for part in ("features", "model"):
            for name, described in entry[part]["arrays"].items():
                array = arrays(root, dict(entry), part)[name]
                assert described["dtype"] == array.dtype.name
                assert described["shape"] == list(array.shape)
                assert described["unit"]
    assert manifest["anchor"]["backend"] == "librosa"
    assert "librosa" in manifest["anchor"]["versions"]
    for precision in networks.precisions(systems.load(rig.SYSTEM).artifacts):
        for entry in manifest["clips"]:
            assert any(precision in name.partition(":")[2] for name in entry["model"]["arrays"]), precision
    assert 0 < max(manifest["anchor"]["worst_error_over_bound"].values()) <= 1
    assert manifest["recorder"]["runtime"] == "onnxrt"
    assert manifest["command"] == "parity golden record"
    assert {"cpu", "numpy", "python"} <= set(manifest["environment"])
    named = {e[part]["file"] for e in manifest["clips"] for part in ("clip", "features", "model")}
    assert set(everything(root)) == named | {"commands-cnn/manifest.json"}


def test_only_arrays_of_a_few_clips_hold_inner_layers(make: Recorder, wavs: Path, tmp_path: Path) -> None:
    def inner(layers: int) -> list[int]:
        manifest = make(wavs, tmp_path / f"golden-{layers}", layers=layers)
        return [len({name.partition(":")[0] for name in e["model"]["arrays"]}) for e in manifest["clips"]]

    assert inner(0) == [1, 1]
    assert sorted(inner(1)) == [1, 7]
    assert inner(9) == [7, 7]


def test_recording_again_changes_nothing(make: Recorder, recorded: Path, wavs: Path, tmp_path: Path) -> None:
    root = root_of(True, recorded, tmp_path)
    make(wavs, root)
    assert everything(root) == everything(recorded)


def test_recording_over_an_old_set_replaces_it(make: Recorder, recorded: Path, wavs: Path, tmp_path: Path) -> None:
    root = root_of(True, recorded, tmp_path)
    old = everything(root)
    folder = rig.system(tmp_path / "system", ("fmax = 8000", "fmax = 7600"))
    manifest = make(wavs, root, folder)
    named = {e[part]["file"] for e in manifest["clips"] for part in ("clip", "features", "model")}
    assert set(everything(root)) == named | {"commands-cnn/manifest.json"}
    assert not {f for f in old if f.startswith("features/")} & named
    assert list(goldens.load(root, systems.load(folder)).verify()) == []


def test_two_systems_share_the_features_of_one_recipe(
    make: Recorder, recorded: Path, wavs: Path, tmp_path: Path
) -> None:
    root = root_of(True, recorded, tmp_path)
    twin = rig.system(tmp_path / "twin", ('name = "commands-cnn"', 'name = "twin"'))
    make(wavs, root, twin)
    assert len(list((root / "features").rglob("*.npz"))) == 2
    for of in (rig.SYSTEM, twin):
        assert list(goldens.load(root, systems.load(of)).verify()) == []


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("anchor", "tap"),
    [("faulty.backends:SymmetricHann", "features/windowed"), ("faulty.backends:LogOffset", "features/compressed")],
)
def test_an_anchor_that_disagrees_records_nothing(
    anchor: str, tap: str, old: bool, make: Recorder, recorded: Path, wavs: Path, tmp_path: Path
) -> None:
    root = root_of(old, recorded, tmp_path)
    before = everything(root)
    with pytest.raises(AnchorError, match=f"disagrees with the oracle at {tap} of no-en-gb-m3.wav") as error:
        make(wavs, root, anchor=anchor)
    assert error.value.exit_code == 1
    assert "nothing was recorded" in str(error.value.hint)
    assert everything(root) == before


def test_an_anchor_that_dies_records_nothing(make: Recorder, wavs: Path, tmp_path: Path) -> None:
    with pytest.raises(AnchorError, match="died of SIGABRT"):
        make(wavs, tmp_path / "golden", anchor="faulty.backends:Aborts")
    assert not (tmp_path / "golden").exists()


def test_the_oracle_is_no_anchor_of_its_own(make: Recorder, wavs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is the oracle itself"):
        make(wavs, tmp_path / "golden", anchor="reference")
    assert not (tmp_path / "golden").exists()


def test_an_anchor_that_cannot_honour_the_recipe_is_refused(make: Recorder, wavs: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", ("rate = 16000", "rate = 16000\npeak_normalize = true"))
    with pytest.raises(ConfigError, match="librosa can't be the anchor: librosa has no peak normalization") as error:
        make(wavs, tmp_path / "golden", folder)
    assert "--unanchored" in str(error.value.hint)
    manifest = make(wavs, tmp_path / "golden", folder, anchor=None)
    assert manifest["anchor"] == {"backend": "none", "versions": {}, "worst_error_over_bound": {}}


def test_a_runtime_that_dies_records_nothing(make: Recorder, wavs: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"faulty.runtimes:Raises failed while recording: .*kernel not implemented"):
        make(wavs, tmp_path / "golden", runtime="faulty.runtimes:Raises")
    with pytest.raises(ConfigError, match="no model that tflite can run"):
        make(wavs, tmp_path / "golden", rig.system(tmp_path / "system"), runtime="tflite")
    assert not (tmp_path / "golden").exists()


def test_without_a_runtime_the_systems_own_reference_records(
    make: Recorder, wavs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("librosa", "torch", "onnxrt", "monte-carlo")  # each other plugin would be started to be asked
    monkeypatch.setattr(registry, "_BUILTIN", [p for p in registry._BUILTIN if p.name in names])
    both = rig.system(tmp_path / "both", formats=("onnx", "torch"))
    manifest = make(wavs, tmp_path / "golden", both, runtime=None)
    assert manifest["recorder"]["runtime"] == "torch:dtype=float64"
    # Its file isn't built here: the next that can run what is.
    folder = rig.system(tmp_path / "system")
    assert make(wavs, tmp_path / "other", folder, runtime=None)["recorder"]["runtime"] == "onnxrt"


def test_one_bad_clip_records_nothing(make: Recorder, wavs: Path, tmp_path: Path) -> None:
    (wavs / "z.wav").write_bytes(b"RIFF and nothing more")
    with pytest.raises(AudioError, match=r"z\.wav can't be read as audio"):
        make(wavs, tmp_path / "golden")
    shutil.rmtree(wavs)
    wavs.mkdir()
    with pytest.raises(NothingCompared, match="no audio"):
        make(wavs, tmp_path / "golden")
    assert not (tmp_path / "golden").exists()


def test_labels_that_do_not_fit_the_logits_record_nothing(make: Recorder, wavs: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", ('"stop", "go"', '"stop"'))
    with pytest.raises(ModelError, match="has 10 labels but 11 logits at model/logits"):
        make(wavs, tmp_path / "golden", folder)
    assert not (tmp_path / "golden").exists()


def test_a_runtime_that_gives_no_logits_records_nothing(make: Recorder, wavs: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gave no model/logits") as e:
        make(wavs, tmp_path / "golden", runtime="faulty.runtimes:LosesLogits")
    assert e.value.hint == "it must return every tap that is mapped"
    assert not (tmp_path / "golden").exists()


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_logits_that_are_not_finite_record_nothing(
    value: str, old: bool, make: Recorder, recorded: Path, wavs: Path, tmp_path: Path
) -> None:
    root = root_of(old, recorded, tmp_path)
    before = everything(root)
    with pytest.raises(ModelError) as error:
        make(wavs, root, runtime=f"faulty.runtimes:Gives:tap=model/logits,value={value}")
    assert error.value.message == ("model/logits has logits that aren't finite (NaN or infinite) for no-en-gb-m3.wav")
    assert everything(root) == before


@pytest.mark.parametrize("old", [False, True])
def test_a_layer_that_holds_nan_records_nothing(
    old: bool, make: Recorder, recorded: Path, wavs: Path, tmp_path: Path
) -> None:
    root, spec = root_of(old, recorded, tmp_path), "faulty.runtimes:Gives:tap=model/relu2,value=nan"
    before = everything(root)
    with pytest.raises(ModelError, match=r"gives NaN at model/relu2 for no-en-gb-m3\.wav") as error:
        make(wavs, root, runtime=spec)
    assert "nothing was recorded" in str(error.value.hint)
    assert everything(root) == before


def test_a_layer_may_hold_an_infinity(make: Recorder, wavs: Path, tmp_path: Path) -> None:
    make(wavs, tmp_path / "golden", runtime="faulty.runtimes:Gives:tap=model/relu2,value=inf")
    assert list(goldens.load(tmp_path / "golden", systems.load(rig.SYSTEM)).verify()) == []


@pytest.mark.parametrize("old", [False, True])
def test_an_oracle_that_gives_nan_records_nothing(
    old: bool, make: Recorder, recorded: Path, wavs: Path, tmp_path: Path
) -> None:
    """Digital silence, its logarithm without an offset, and a cosine transform: the difference of two infinities."""
    root = root_of(old, recorded, tmp_path)
    before = everything(root)
    folder = rig.system(tmp_path / "system", ("offset = 1e-6", "offset = 0\n\n[frontend.cepstrum]\ncount = 50"))
    rig.wav(tmp_path / "mixed" / "noise.wav", rig.clip("white-noise"))
    rig.wav(tmp_path / "mixed" / "silent.wav", np.zeros(16000, np.float32))
    with pytest.raises(ConfigError, match=r"the oracle gives NaN at features/cepstrum for silent\.wav") as error:
        make(tmp_path / "mixed", root, folder)
    assert "a logarithm of zero, or a clip without sound?" in str(error.value.hint)
    assert everything(root) == before


@pytest.mark.parametrize("where", ["/proc/no-such-place", "a-file/golden"])
def test_a_folder_that_cannot_be_written(where: str, make: Recorder, wavs: Path, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("in the way")
    with pytest.raises(ConfigError, match="goldens can't be written"):
        make(wavs, tmp_path / where)


def test_a_crash_on_the_way_leaves_the_old_set_whole(
    make: Recorder, recorded: Path, wavs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root_of(True, recorded, tmp_path)
    manifest = (root / "commands-cnn" / "manifest.json").read_bytes()
    write, count = goldens.write_atomic, 0

    def fails_at_the_third(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(goldens, "write_atomic", fails_at_the_third)
    folder = rig.system(tmp_path / "system", ("fmax = 8000", "fmax = 7600"))
    with pytest.raises(ConfigError, match="No space left on device"):
        make(wavs, root, folder)
    assert (root / "commands-cnn" / "manifest.json").read_bytes() == manifest
    assert list(goldens.load(root, systems.load(rig.SYSTEM)).verify()) == []
    assert not list(root.rglob("*.part"))


def test_clips_of_odd_names_and_one_content(make: Recorder, tmp_path: Path) -> None:
    names = ['sub folder/a "quoted" name.wav', "sub folder/<script>alert(1)</script>.wav".replace("/script", "script"),
             "ümlaut – ñ.wav", "same.wav", "deeper/same.wav"]  # fmt: skip
    for name in names:
        rig.wav(tmp_path / "wavs" / name)
    root = tmp_path / "golden"
    manifest = make(tmp_path / "wavs", root)
    assert [e["name"] for e in manifest["clips"]] == sorted(names)
    assert list(goldens.load(root, systems.load(rig.SYSTEM)).verify()) == []
    files = [Path(e[part]["file"]).name for e in manifest["clips"] for part in ("clip", "features", "model")]
    assert all(set(f) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for f in files)


def test_clips_that_lie_in_the_set_are_not_copied(make: Recorder, wavs: Path, tmp_path: Path) -> None:
    root = tmp_path / "golden"
    shutil.copytree(wavs, root / "clips")
    manifest = make(root / "clips", root)
    assert sorted(e["clip"]["file"] for e in manifest["clips"]) == ["clips/no-en-gb-m3.wav", "clips/yes-en-us-f2.wav"]
    assert len(list((root / "clips").iterdir())) == 2


@pytest.mark.parametrize("relative", [False, True])
def test_recording_again_from_the_sets_own_clips_keeps_the_names_they_were_recorded_under(
    relative: bool, make: Recorder, wavs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wavs / "yes-en-us-f2.wav").rename(wavs / "ümlaut – ñ.wav")
    rig.wav(wavs / "sub folder" / "no-en-gb-m3.wav")
    root = tmp_path / "golden"
    make(wavs, root)
    before = everything(root)
    monkeypatch.chdir(tmp_path)
    again = Path("golden") if relative else root
    manifest = make(again / "clips", again)
    assert [e["name"] for e in manifest["clips"]] == [
        "no-en-gb-m3.wav", "sub folder/no-en-gb-m3.wav", "ümlaut – ñ.wav"
    ]  # fmt: skip
    assert everything(root) == before


def test_a_clip_that_joins_the_sets_own_is_named_by_its_path(make: Recorder, wavs: Path, tmp_path: Path) -> None:
    root = tmp_path / "golden"
    make(wavs, root)
    rig.wav(root / "clips" / "new" / "one.wav")
    manifest = make(root / "clips", root)
    assert [e["name"] for e in manifest["clips"]] == ["new/one.wav", "no-en-gb-m3.wav", "yes-en-us-f2.wav"]


@pytest.mark.parametrize("how", ["by its path", "by a link"])
def test_two_files_that_would_have_one_name_record_nothing(
    how: str, make: Recorder, recorded: Path, tmp_path: Path
) -> None:
    root = root_of(True, recorded, tmp_path)
    manifest = json.loads((root / "commands-cnn" / "manifest.json").read_bytes())
    recorded = root / manifest["clips"][1]["clip"]["file"]
    if how == "by its path":
        rig.wav(root / "clips" / "yes-en-us-f2.wav", rig.clip("no-en-gb-m3"))
    else:
        (root / "clips" / "z.wav").symlink_to(recorded)
    before = everything(root)
    with pytest.raises(ConfigError, match=r"would both be recorded as 'yes-en-us-f2\.wav'") as error:
        make(root / "clips", root)
    assert str(recorded) in error.value.message
    assert "rename or remove" in str(error.value.hint)
    assert everything(root) == before


@pytest.mark.parametrize("text", ["", "[]", '{"clips": 3}', '{"clips": {"a": 1}}', '{"clips": [{"name": "a"}]}',
                                  "[" * 100_000, '{"clips": [{"name": "a", "clip": {"file": "\\u0000"}}]}'],
                         ids=range(7))  # fmt: skip
def test_a_set_that_cannot_be_read_is_recorded_over(text: str, make: Recorder, wavs: Path, tmp_path: Path) -> None:
    root = tmp_path / "golden"
    (root / "commands-cnn").mkdir(parents=True)
    (root / "commands-cnn" / "manifest.json").write_text(text)
    manifest = make(wavs, root, anchor=None)
    assert [e["name"] for e in manifest["clips"]] == ["no-en-gb-m3.wav", "yes-en-us-f2.wav"]
    assert list(goldens.load(root, systems.load(rig.SYSTEM)).verify()) == []


def test_recording_leaves_other_peoples_files_alone(make: Recorder, recorded: Path, wavs: Path, tmp_path: Path) -> None:
    root = root_of(True, recorded, tmp_path)
    strangers = [root / "mine" / "results.npz", root / "features" / "mine" / "features.npz", root / "notes.npz"]
    for path in strangers:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, x=np.zeros(3))
    make(wavs, root, layers=1)
    assert everything(root).keys() != everything(recorded).keys()  # what it wrote before is gone
    assert [p for p in strangers if not p.is_file()] == []


def test_the_manifest_is_the_same_json_each_time(recorded: Path) -> None:
    text = (recorded / "commands-cnn" / "manifest.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
