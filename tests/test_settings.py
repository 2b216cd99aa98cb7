"""parity.toml: what it may say, and how it says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity import settings
from parity.errors import ConfigError


def test_without_a_file_the_defaults_count(tmp_path: Path) -> None:
    assert settings.load(tmp_path) == settings.Settings()
    assert settings.load(tmp_path).test is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert settings.load(tmp_path) == settings.Settings()


@pytest.mark.parametrize(("name", "head"), [("parity.toml", ""), ("pyproject.toml", "tool.parity.")])
def test_either_file_is_read(tmp_path: Path, name: str, head: str) -> None:
    text = f'[{head}gate]\ndrift_factor = 1.5\nlatency_factor = 2\n[{head}test]\nsystems = ["a", "b"]\n'
    (tmp_path / name).write_text(text)
    found = settings.load(tmp_path)
    assert (found.gate.drift_factor, found.gate.latency_factor, found.gate.size_factor) == (1.5, 2.0, None)
    assert found.test is not None
    assert found.test.systems == ("a", "b")


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("[gate]\ndrift_facter = 2.0\n", "unknown key 'gate.drift_facter'", "did you mean 'drift_factor'?"),
        ("[gates]\nx = 1\n", "unknown table 'gates'", "did you mean 'gate'?"),
        ("[zebra]\n", "unknown table 'zebra'", "known here: gate, test"),
        ("[gate]\ndrift_factor = 0.5\n", "gate.drift_factor: expected `float` >= 1.0", "README"),
        ("[gate]\ndrift_factor = inf\n", "gate.drift_factor: expected `float` <= 1", "README"),
        ("[gate]\ndrift_floor = nan\n", "gate.drift_floor: expected `float`", "README"),
        ("[gate]\nflips_margin = 0.5\n", "gate.flips_margin: expected `int`", "README"),
        ("[test]\nsystems = 'commands-cnn'\n", "test.systems: expected `array`", "README: 'In your tests'"),
        ("gate = 3\n", "gate: expected `object`", "README"),
        ("[gate\n", "is not TOML", "mend the line"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, said: str, hint: str) -> None:
    (tmp_path / "parity.toml").write_text(text)
    with pytest.raises(ConfigError) as e:
        settings.load(tmp_path)
    assert said in e.value.message
    assert str(tmp_path / "parity.toml") in e.value.message
    assert e.value.hint is not None
    assert hint in e.value.hint


def test_two_places_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "parity.toml").write_text("[gate]\n")
    (tmp_path / "pyproject.toml").write_text("[tool.parity.gate]\n")
    with pytest.raises(ConfigError, match="settings stand in"):
        settings.load(tmp_path)


def test_a_pyproject_whose_tools_are_no_table_is_not_ours_to_judge(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("tool = 5\n")
    assert settings.load(tmp_path) == settings.Settings()
    (tmp_path / "pyproject.toml").write_text("[tool]\nparity = 5\n")
    with pytest.raises(ConfigError, match=r"tool\.parity: expected `object`"):
        settings.load(tmp_path)


def test_a_wrong_place_in_pyproject_is_named_in_full(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.parity.gate]\nsize = 2\n")
    with pytest.raises(ConfigError, match=r"unknown key 'tool\.parity\.gate\.size'"):
        settings.load(tmp_path)
