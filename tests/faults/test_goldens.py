"""Goldens that were altered, belong to another recipe, or lack a rule: never a pass, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parity import golden as goldens
from parity import system as systems
from parity.errors import CONFIG, GOLDEN, ConfigError, GoldenError
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes

ONE = ("yes-en-us-f2.flac",)


def flip(path: Path, at: int = -1) -> None:
    """Flip a bit of the byte in the middle of a file, or at `at`."""
    data = bytearray(path.read_bytes())
    data[at if at >= 0 else len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("part", ["clip", "features", "model"])
def test_a_flipped_bit_in_an_array_or_a_clip_is_noticed(part: str, local: LocalTarget, tmp_path: Path) -> None:
    root = rig.goldens(tmp_path / "golden", ONE)
    (entry,) = json.loads((root / "commands-cnn" / "manifest.json").read_bytes())["clips"]
    flip(root / entry[part]["file"])
    with pytest.raises(GoldenError, match="was altered") as error:
        rig.run(local, root, tmp_path / "reports")
    assert error.value.exit_code == GOLDEN
    assert entry[part]["file"] in error.value.message
    assert rig.left_over(tmp_path / "reports") == []


@pytest.mark.parametrize("part", ["clip", "features", "model", "manifest"])
def test_a_file_that_is_gone_or_cut_is_noticed(part: str, local: LocalTarget, tmp_path: Path) -> None:
    root = rig.goldens(tmp_path / "golden", ONE)
    manifest = root / "commands-cnn" / "manifest.json"
    (entry,) = json.loads(manifest.read_bytes())["clips"]
    path = manifest if part == "manifest" else root / entry[part]["file"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(GoldenError):
        rig.run(local, root, tmp_path / "reports")
    path.unlink()
    with pytest.raises(GoldenError):
        rig.run(local, root, tmp_path / "reports")
    assert rig.left_over(tmp_path / "reports") == []


def test_a_flipped_bit_anywhere_in_the_manifest_ends_in_no_other_error(tmp_path: Path) -> None:
    root = rig.goldens(tmp_path / "golden", ONE)
    path, system = root / "commands-cnn" / "manifest.json", systems.load(rig.SYSTEM)
    whole = path.read_bytes()
    refused = 0
    for at in range(0, len(whole), max(1, len(whole) // 400)):
        flip(path, at)
        try:
            opened = goldens.load(root, system)
            for entry in opened.clips:
                opened.read(entry)
        except GoldenError:
            refused += 1
        path.write_bytes(whole)
    assert refused > 50  # digests, keys, the syntax; what is left is provenance


@pytest.mark.parametrize("key", ["clips", "labels", "anchor"])
def test_a_manifest_that_lacks_a_key_is_refused(key: str, local: LocalTarget, tmp_path: Path) -> None:
    root = rig.goldens(tmp_path / "golden", ONE)
    path = root / "commands-cnn" / "manifest.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_bytes()).items() if k != key}))
    with pytest.raises(GoldenError):
        rig.run(local, root, tmp_path / "reports")


def test_a_manifest_of_another_format_is_refused(local: LocalTarget, tmp_path: Path) -> None:
    root = rig.goldens(tmp_path / "golden", ONE)
    path = root / "commands-cnn" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"format": 99}))
    with pytest.raises(GoldenError, match="format 99"):
        rig.run(local, root, tmp_path / "reports")


def test_a_file_outside_the_set_is_refused(local: LocalTarget, tmp_path: Path) -> None:
    root = rig.goldens(tmp_path / "golden", ONE)
    path = root / "commands-cnn" / "manifest.json"
    path.write_text(path.read_text().replace('"clips/', '"../clips/'))
    with pytest.raises(GoldenError, match="outside"):
        rig.run(local, root, tmp_path / "reports")


@pytest.mark.parametrize(
    ("old", "new", "setting"),
    [
        ("fmax = 8000", "fmax = 7600", r"frontend\.filterbank\.fmax was 8000\.0, is 7600\.0"),
        ("periodic = true", "periodic = false", r"frontend\.window\.periodic was True, is False"),
        ("offset = 1e-6", "offset = 1e-7", r"frontend\.compress\.offset was 1e-06, is 1e-07"),
        ('scale = "htk"', 'scale = "slaney"', r"frontend\.filterbank\.scale was 'htk', is 'slaney'"),
    ],
)
def test_goldens_of_another_recipe_name_the_setting(
    old: str, new: str, setting: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system", (old, new))
    with pytest.raises(GoldenError, match=setting):
        rig.run(local, golden, tmp_path / "reports", systems=(str(folder),))
    assert rig.left_over(tmp_path / "reports") == []


def test_goldens_that_lack_the_tap_that_decides_are_refused(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", ('source = "model/logits"', 'source = "model/pool5"'))
    with pytest.raises(GoldenError, match="model/pool5"):
        rig.run(local, golden, tmp_path / "reports", systems=(str(folder),))


def with_rules(root: Path, change: Callable[[str], str]) -> Path:
    path = root / "tolerances.toml"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    return root


INTEGERS: dict[str, Any] = {"runtimes": ("tflite",), "precisions": ("int8",)}
"""How kernels round integers isn't derived."""


def test_no_rule_for_a_tap_is_a_configuration_error(local: LocalTarget, tmp_path: Path) -> None:
    root = with_rules(rig.goldens(tmp_path / "golden", ONE), lambda t: t.replace('"model/relu3"', '"model/other"'))
    with pytest.raises(ConfigError, match=r"no rule says how far model/relu3 .*int8, deployment") as error:
        rig.run(local, root, tmp_path / "reports", **INTEGERS)
    assert error.value.exit_code == CONFIG
    assert "tolerances.toml" in str(error.value.hint)
    assert rig.left_over(tmp_path / "reports") == []


def test_no_rules_at_all_is_a_configuration_error(local: LocalTarget, tmp_path: Path) -> None:
    root = with_rules(rig.goldens(tmp_path / "golden", ONE), lambda _: "")
    with pytest.raises(ConfigError, match="no rule says"):
        rig.run(local, root, tmp_path / "reports", **INTEGERS)


def test_what_is_derived_needs_no_rule(local: LocalTarget, tmp_path: Path) -> None:
    root = with_rules(rig.goldens(tmp_path / "golden", ONE), lambda _: "")
    done = rig.run(local, root, tmp_path / "reports")
    assert done.exit_code == 0
    assert {s.worst.rule for s in done.summaries if s.worst.tap.startswith("model/")} == {"derived"}


@pytest.mark.parametrize("why", ['why = ""', 'why = "  "', ""])
def test_a_rule_without_a_reason_is_refused(why: str, local: LocalTarget, tmp_path: Path) -> None:
    rule = f'[[tolerance]]\ntap = "model/*"\nof_rms = 1.0\n{why}\n'
    root = with_rules(rig.goldens(tmp_path / "golden", ONE), lambda t: rule + t)
    with pytest.raises(ConfigError, match=r"reason|why"):
        rig.run(local, root, tmp_path / "reports")


GAP = '[[gap]]\nkind = "recipe"\nreason = "measured on a bad day"\noutcome = "fail"\nsystem = "commands-cnn"\n'


def gapped(root: Path, text: str) -> Path:
    (root / "known_gaps.toml").write_text(text, encoding="utf-8")
    return root


def test_a_known_gap_that_passes_fails(local: LocalTarget, tmp_path: Path) -> None:
    root = gapped(rig.goldens(tmp_path / "golden", ONE), GAP + 'tap = "model/relu2"\npath = "isolated"\n')
    done = rig.run(local, root, tmp_path / "reports")
    assert done.exit_code == 1
    assert rig.failing(done) == []
    assert done.gaps == {"met": [], "unmet": ["commands-cnn · isolated · model/relu2: measured on a bad day"]}


@pytest.mark.parametrize(
    "fields",
    [
        'tap = "model/relu7"\n',
        'tap = "features/spectrum"\nbackend = "numpy"\nclip = "no-such-clip"\n',
    ],
)
def test_a_known_gap_that_matches_nothing_fails(fields: str, local: LocalTarget, tmp_path: Path) -> None:
    root = gapped(rig.goldens(tmp_path / "golden", ONE), GAP + fields)
    done = rig.run(local, root, tmp_path / "reports")
    assert done.exit_code == 1
    assert rig.failing(done) == []
    assert len(done.gaps["unmet"]) == 1


def test_a_known_gap_of_what_was_not_selected_is_left_alone(local: LocalTarget, tmp_path: Path) -> None:
    root = gapped(rig.goldens(tmp_path / "golden", ONE), GAP + 'tap = "model/relu2"\nruntime = "tflite"\n')
    assert rig.run(local, root, tmp_path / "reports").exit_code == 0


def test_a_known_gap_covers_its_failure_and_no_other(local: LocalTarget, tmp_path: Path) -> None:
    fields = 'tap = "features/filterbank"\nbackend = "faulty.*"\n'
    root = gapped(rig.goldens(tmp_path / "golden", ONE), GAP + fields)
    covered = rig.run(
        local, root, tmp_path / "reports", backends=("faulty.backends:OneUlpTooMuch:tap=features/filterbank",)
    )
    assert rig.failing(covered) == []
    assert covered.exit_code == 0
    assert [s.worst.gap for s in covered.summaries if s.worst.outcome == "gap"] == ["measured on a bad day"]
    wider = rig.run(local, root, tmp_path / "reports", backends=("faulty.backends:SlaneyScale",))
    assert wider.exit_code == 1
    assert rig.failing(wider)[0] == ("features/compressed", "fail")


@pytest.mark.parametrize("fault", ["Double", "NotANumber", "Empty", "Missing"])
def test_a_known_gap_never_covers_what_has_no_size(fault: str, local: LocalTarget, tmp_path: Path) -> None:
    root = gapped(rig.goldens(tmp_path / "golden", ONE), GAP + 'tap = "features/filterbank"\nbackend = "faulty.*"\n')
    done = rig.run(local, root, tmp_path / "reports", backends=(f"faulty.backends:{fault}:tap=features/filterbank",))
    assert done.exit_code == 1
    assert [t for t, _ in rig.failing(done)] == ["features/filterbank"]
    assert len(done.gaps["unmet"]) == 1


def test_a_known_gap_covers_no_worse_failure_than_it_says(local: LocalTarget, tmp_path: Path) -> None:
    gap = GAP + 'tap = "*"\nbackend = "faulty.*"\nmax_ratio = 2.0\n'
    root = gapped(rig.goldens(tmp_path / "golden", ONE), gap)
    done = rig.run(local, root, tmp_path / "reports", backends=("faulty.backends:Magnitude",))
    assert done.exit_code == 1
    assert rig.failing(done)[0] == ("features/spectrum", "fail")


def test_a_gap_with_an_unknown_key_or_kind_is_refused(local: LocalTarget, tmp_path: Path) -> None:
    bad: list[Any] = [GAP + 'tap = "model/logits"\nwhen = "always"\n', GAP.replace("recipe", "mood") + 'tap = "x"\n']
    for text in bad:
        root = gapped(rig.goldens(tmp_path / f"golden-{bad.index(text)}", ONE), text)
        with pytest.raises(ConfigError, match=r"known_gaps\.toml"):
            rig.run(local, root, tmp_path / "reports")
