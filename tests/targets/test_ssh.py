"""What is said of an SSH connection that can't be had; with a server: tests/pi."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.targets.ssh import SshLink


@pytest.mark.parametrize(
    ("words", "hint", "code"),
    [
        ("Permission denied (publickey).", "ssh-copy-id -F 'my config' -p 2222 pi@board;", 3),
        ("Host key verification failed.", "accept it once: ssh -F 'my config' -p 2222 pi@board", 3),
        ("REMOTE HOST IDENTIFICATION HAS CHANGED!", "ssh-keygen -R '[board]:2222', then ssh -F", 3),
        ("connect to host board port 2222: Connection refused", "try: ssh -F 'my config' -p 2222 pi@board", 4),
    ],
)
def test_what_is_to_be_typed_goes_to_the_same_place(words: str, hint: str, code: int) -> None:
    error = SshLink("pi", "pi@board", 2222, Path("my config"))._error(words)
    assert error.exit_code == code
    assert hint in (error.hint or "")
