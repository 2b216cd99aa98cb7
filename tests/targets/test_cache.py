"""The far side's cache: whole files under their own digests, and nothing outside its folder."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from parity.errors import ConfigError
from parity.targets.cache import Cache


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_is_put_is_there_for_the_next(tmp_path: Path) -> None:
    path = Cache(tmp_path).put(digest(b"abc"), "model.onnx", b"abc")
    assert path.read_bytes() == b"abc"
    again = Cache(tmp_path)
    assert again.held() == [digest(b"abc")]
    assert again.use(digest(b"abc"), "model.onnx") == path
    assert again.use(digest(b"xyz"), "model.onnx") is None
    assert again.put(digest(b"abc"), "model.onnx", b"abc") == path
    other = again.put(digest(b"abc"), "data", b"abc")
    assert (other.read_bytes(), path.read_bytes()) == (b"abc", b"abc")
    assert sorted(p.name for p in (tmp_path / "content").iterdir()) == [digest(b"abc")]


@pytest.mark.parametrize("damaged", [b"", b"abd", b"abcd"])
def test_what_a_loss_of_power_damaged_is_not_used_and_is_replaced(damaged: bytes, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    path = cache.put(digest(b"abc"), "model.onnx", b"abc")
    path.write_bytes(damaged)
    assert cache.use(digest(b"abc"), "model.onnx") is None
    cache.put(digest(b"abc"), "model.onnx", b"abc")
    assert cache.use(digest(b"abc"), "model.onnx") == path
    assert path.read_bytes() == b"abc"


@pytest.mark.parametrize(
    ("sha256", "name"),
    [("../" + "a" * 61, "x"), ("a" * 63, "x"), ("A" * 64, "x"), ("a" * 64, "../x"), ("a" * 64, ".x"), ("a" * 64, "a/b"),
     ("a" * 64, "")],
)  # fmt: skip
def test_a_path_cannot_leave_the_folder(sha256: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no content can be called"):
        Cache(tmp_path).put(sha256, name, b"")


def test_what_arrives_changed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did not arrive as it was sent"):
        Cache(tmp_path).put(digest(b"abc"), "model.onnx", b"abd")
    assert Cache(tmp_path).held() == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigError, match=r"the disk is full: .* MB free, 0.0 MB are wanted") as e:
        Cache(tmp_path).put(digest(b"abc"), "model.onnx", b"abc")
    assert "parity target clean" in (e.value.hint or "")
    assert list((tmp_path / "content").iterdir()) == []


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for i, data in enumerate((b"a" * 10, b"b" * 10, b"c" * 10)):
        path = cache.put(digest(data), "data", data)
        os.utime(path.parent, (1000 + i, 1000 + i))
    assert cache.use(digest(b"a" * 10), "data") is not None
    left = tmp_path / "content" / ".part-old"
    left.mkdir()
    os.utime(left, (1000, 1000))
    cache.tidy(limit=20)
    assert cache.held() == sorted([digest(b"a" * 10), digest(b"c" * 10)])
    assert not left.exists()
