"""Arrays as C: a compiler reads back every bit, of every kind of number, with every warning an error."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from parity import c_source
from parity.protocols import Array

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) here")
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")


def printed(folder: Path, *sources: Path, standard: str = "c99") -> bytes:
    """What a program of these sources prints."""
    program = folder / f"program-{standard}"
    subprocess.run(["cc", f"-std={standard}", *STRICT, *map(str, sources), "-o", str(program)], check=True)
    return subprocess.run([str(program)], check=True, capture_output=True).stdout


ARRAYS = {
    "float32": np.array([0.0, -0.0, 0.1, 1 / 3, 3.4e38, 1e-45, 1.1754944e-38, np.inf, -np.inf, np.nan], np.float32),
    "float64": np.array([0.1, 1 / 3, 5e-324, -1.7976931348623157e308]),
    "int8": np.arange(-128, 128, dtype=np.int8), "uint8": np.arange(256, dtype=np.uint8),
    "int16": np.array([-32768, -1, 0, 32767], np.int16), "int32": np.array([-(2**31), 2**31 - 1], np.int32),
    "int64": np.array([-(2**63), 2**63 - 1]),
}  # fmt: skip


@needs_cc
def test_a_compiler_reads_back_every_bit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2**32, 5000, np.uint32).view(np.float32)
    arrays: dict[str, Array] = ARRAYS | {"noise": np.where(np.isnan(noise), np.float32(0), noise)}
    text = "#include <math.h>\n#include <stdint.h>\n#include <stdio.h>\n"
    text += "".join(c_source.array(f"a_{n}", a, "static const") for n, a in arrays.items())
    text += "int main(void) {\n" + "".join(f"  fwrite(a_{n}, 1, sizeof a_{n}, stdout);\n" for n in arrays)
    (tmp_path / "a.c").write_text(text + "  return 0;\n}\n")
    assert printed(tmp_path, tmp_path / "a.c") == b"".join(a.tobytes() for a in arrays.values())


def test_an_array_without_elements_is_refused() -> None:
    with pytest.raises(ValueError, match="no empty arrays"):
        c_source.array("nothing", np.zeros(0, np.float32))


def test_names_become_identifiers_that_differ_on_every_disk() -> None:
    names = ["yes-en.flac", "yes_en.flac", "YES en.flac", "1.wav", "ä", "ä"]
    assert c_source.identifiers(names) == ["yes_en_flac", "yes_en_flac_2", "YES_en_flac_3", "x1_wav", "x", "x_2"]


@needs_cc
def test_any_text_is_a_string_and_stays_in_its_comment(tmp_path: Path) -> None:
    words = 'a"b\\n ??/ ü */ 1\n%s'
    text = f"#include <stdio.h>\n/* {c_source.comment(words)} */\nint main(void) {{ fputs({c_source.text(words)}"
    (tmp_path / "a.c").write_text(text + ", stdout); return 0; }\n")
    assert printed(tmp_path, tmp_path / "a.c").decode() == words


MAIN = """\
#include "tiny_model.h"
#include <stdint.h>
#include <stdio.h>
int main(void) {
  if ((uintptr_t)g_tiny_model % 16 != 0 || sizeof g_tiny_model != g_tiny_model_len) return 1;
  return fwrite(g_tiny_model, 1, g_tiny_model_len, stdout) != g_tiny_model_len;
}
"""


@needs_cc
@pytest.mark.parametrize("standard", ["c99", "c11"])
def test_a_model_is_aligned_and_prints_its_own_bytes(standard: str, tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 1001, np.uint8).tobytes()
    header, source = c_source.model(data, "tiny", "a model")
    for name, text in (("tiny_model.h", header), ("tiny_model.c", source), ("main.c", MAIN)):
        (tmp_path / name).write_text(text)
    assert printed(tmp_path, tmp_path / "main.c", tmp_path / "tiny_model.c", standard=standard) == data


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler (c++) here")
def test_a_model_is_c_plus_plus_too(tmp_path: Path) -> None:
    header, source = c_source.model(b"abc", "tiny", "a model")
    for name, text in (("tiny_model.h", header), ("tiny_model.cc", source), ("main.cc", MAIN)):
        (tmp_path / name).write_text(text)
    sources = [str(tmp_path / n) for n in ("main.cc", "tiny_model.cc")]
    subprocess.run(["c++", "-std=c++11", *STRICT, *sources, "-o", str(tmp_path / "p")], check=True)
    assert subprocess.run([str(tmp_path / "p")], check=True, capture_output=True).stdout == b"abc"
