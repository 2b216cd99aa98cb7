"""parity.toml: what it may say, and how it says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity import settings
from parity.errors import ConfigError


def test_targets_are_read_by_name(tmp_path: Path) -> None:
    text = '[targets.pi]\nssh = "pi@raspberrypi:2222"\nthreads = 4\nssh_config = "ci/ssh_config"\n'
    (tmp_path / "parity.toml").write_text(text + '[targets.old]\npython = "/opt/old/bin/python"\n')
    found = settings.load(tmp_path).targets
    assert list(found) == ["pi", "old"]
    assert found["pi"] == settings.TargetSettings(ssh="pi@raspberrypi:2222", threads=4, ssh_config="ci/ssh_config")
    assert (found["old"].ssh, found["old"].python, found["old"].threads) == (None, "/opt/old/bin/python", None)


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
        ("[zebra]\n", "unknown table 'zebra'", "known here: gate, test, targets"),
        ("[gate]\ndrift_factor = 0.5\n", "gate.drift_factor: expected `float` >= 1.0", "README"),
        ("[gate]\ndrift_factor = inf\n", "gate.drift_factor: expected `float` <= 1", "README"),
        ("[gate]\ndrift_floor = nan\n", "gate.drift_floor: expected `float`", "README"),
        ("[gate]\nflips_margin = 0.5\n", "gate.flips_margin: expected `int`", "README"),
        ("[test]\nsystems = 'commands-cnn'\n", "test.systems: expected `array`", "README: 'In your tests'"),
        ("[targets.pi]\n", "targets.pi says neither ssh nor python", 'ssh = "user@host"'),
        ("[targets.pi]\nthread = 2\n", "unknown key 'targets.pi.thread'", "did you mean 'threads'?"),
        ("[targets.pi]\nssh = 3\n", "targets.pi.ssh: expected `str | null`, got `int`", "README: 'On a device'"),
        ("[targets.a]\nssh = 'a'\n[targets.pi]\nssh = 'b'\nthreads = 0\n", "targets.pi.threads: expected", "README"),
        ("[targets.pi]\nssh = 'b'\nthreads = 257\n", "targets.pi.threads: expected `int` <= 256", "README"),
        (
            "[targets.pi]\nssh = 'pi@host:99999'\n",
            "targets.pi.ssh: 'pi@host:99999': 99999 is no port",
            "ssh's own is 22",
        ),
        ("[targets.pi]\nssh = '-oProxyCommand=x'\n", "targets.pi.ssh: '-oProxyCommand=x' is no address", "user@host"),
        ("[targets.pi]\npython = ' '\n", "targets.pi.python: ' ' names nothing", "fill it in"),
        ("[targets.pi]\npython = 'x'\nssh_config = 'y'\n", "targets.pi: ssh_config without ssh", "which host"),
        ("[targets.local]\nssh = 'x'\n", "'local' is a target of parity's own", "another name"),
        ("[targets.emulated-pi]\nssh = 'x'\n", "'emulated-pi' is a target of parity's own", "another name"),
        ("[targets.'a:b']\nssh = 'x'\n", "'a:b' can't be the name of a target", "letters, digits"),
        ("[targets.'a/b']\nssh = 'x'\n", "'a/b' can't be the name of a target", "letters, digits"),
        ("[targets]\npi = 3\n", "targets.pi: expected `object`, got `int`", "README: 'On a device'"),
        ("targets = 3\n", "targets: expected `object`", "README: 'On a device'"),
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
