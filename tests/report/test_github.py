"""What a GitHub Actions job is told: annotations that nothing can break out of, a summary that fits."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from parity.cli import main
from parity.report import github

from .made import HOSTILE, hostile, mixed, run, verdict, whole
from .test_markdown import GATE


def read(line: str) -> tuple[str, dict[str, str], str]:
    """An annotation as the runner reads it: `::name key=value,...::data`, undone in its order."""
    assert "\n" not in line
    assert "\r" not in line
    found = re.fullmatch(r"::(\w+)(?: ([^:]*))?::(.*)", line)
    assert found is not None
    kind, given, data = found.groups()
    undone = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))

    def undo(text: str) -> str:
        for written, meant in undone:
            text = text.replace(written, meant)
        return text

    return kind, {k: undo(v) for k, _, v in (p.partition("=") for p in (given or "").split(",") if p)}, undo(data)


@pytest.mark.parametrize(
    "text", ["a", "50 %", "%0A", "x\r\n::error::y", "a,file=/etc/passwd", "::stop-commands::z", HOSTILE]
)
def test_values_come_back_as_they_were(text: str) -> None:
    assert read(github.annotation("error", text, text, text)) == ("error", {"file": text, "title": text}, text)


def test_an_annotation_a_cause_on_the_systems_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    of = mixed()
    of.systems["commands-cnn"]["folder"] = str(tmp_path / "models" / "commands-cnn")
    found = [read(line) for line in github.marks(of)]
    assert [kind for kind, _, _ in found] == ["error"] * 3
    assert found[1][1] == {"file": "models/commands-cnn/system.toml", "title": "parity: commands-cnn · librosa"}
    assert "first at features/spectrum (clip yes-en-us-f2, frame 12, 0.125 s" in found[1][2]
    of.systems["commands-cnn"]["folder"] = "/elsewhere"
    assert "file" not in read(github.marks(of)[1])[1]


def test_findings_of_the_gate_and_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = github.marks(run(*whole("numpy"), gate=GATE, exit_code=1))
    assert read(line)[1:] == (
        {"title": "parity gate: drift"},
        "commands-cnn · numpy · features/spectrum: 0.45 of its bound, 0.3 was accepted",
    )
    many = run(*(verdict("fail", "features/spectrum", backend=f"b{n}") for n in range(30)), exit_code=1)
    lines = github.marks(many)
    assert len(lines) == 10
    assert read(lines[-1])[2].startswith("and 21 more: FAIL: ")


def test_what_isnt_complete_is_a_warning_and_a_pass_says_nothing() -> None:
    assert github.marks(run(*whole("numpy"))) == []
    (line,) = github.marks(run(exit_code=2))
    assert read(line)[0] == "warning"
    assert read(line)[2].startswith("NOTHING COMPARED")


def test_any_text_makes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in github.marks(hostile()):
        assert read(line)[0] == "error"


def test_the_summary_is_appended_until_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    github.tell(run(*whole("numpy")), sys.stdout)
    words = path.read_text(encoding="utf-8")
    assert words.startswith("before\n### ✅ parity: PASS")
    fits = github.SUMMARY_LIMIT - len(words.removeprefix("before\n").encode())
    for room, grows in ((fits, True), (fits + 1, False)):
        path.write_text("x" * room)
        github.tell(run(*whole("numpy")), sys.stdout)
        assert path.stat().st_size == (github.SUMMARY_LIMIT if grows else room)


def test_a_summary_that_cant_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "absent" / "summary.md"))
    github.tell(run(*whole("numpy")), sys.stdout)
    assert "the job's summary can't be written: No such file or directory" in capsys.readouterr().err


def test_no_command_is_read_in_what_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for inside, lines in (("true", 3), ("", 1)):
        monkeypatch.setenv("GITHUB_ACTIONS", inside)
        with github.no_commands():
            print("::error::planted")
        out = capsys.readouterr().out.splitlines()
        assert len(out) == lines
        if inside:
            found = re.fullmatch(r"::stop-commands::([0-9a-f]{32})", out[0])
            assert found is not None
            assert out[1:] == ["::error::planted", f"::{found[1]}::"]


@pytest.mark.parametrize("inside", ["true", ""])
def test_an_error_of_hostile_words_steers_nothing(
    inside: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", inside)
    monkeypatch.setattr(sys, "argv", ["parity", "report", "a\x1b[31m\r\n::add-mask::b"])
    with pytest.raises(SystemExit) as e:
        main()
    said = capsys.readouterr().err
    assert (e.value.code, r"a\x1b[31m\r" in said, "\x1b" in said, "\r" in said) == (3, True, False, False)
    commands = [line for line in re.split(r"[\r\n]", said) if line.lstrip().startswith("::")]
    assert [line.partition(" ")[0] for line in commands] == (["::error"] if inside else ["::add-mask::b"])


def test_elsewhere_nothing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    github.tell(mixed(), sys.stdout)
    assert capsys.readouterr() == ("", "")


def test_annotations_follow_the_run_on_its_stream(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    with github.no_commands():
        print("the run")
    github.tell(mixed(), sys.stdout)
    out, err = capsys.readouterr()
    assert err == ""
    kinds = [line.partition("::")[2].partition("::")[0].partition(" ")[0] for line in out.splitlines()]
    assert kinds[0] == "stop-commands"
    assert kinds[3:] == ["error"] * 3
