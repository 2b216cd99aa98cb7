"""Arrays as C: source that compiles with `cc -std=c99 -Wall -Wextra -Werror` and holds the same bytes.

Numbers are written as short as they can be and still be read back to the bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from parity.protocols import Array

TYPES = {
    "float32": "float", "float64": "double", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t",
    "uint16": "uint16_t", "int32": "int32_t", "int64": "int64_t",
}  # fmt: skip
"""dtype -> C type; <stdint.h> has the integers."""

_LINE = 100
ALIGN = """\
#if defined(__cplusplus) && __cplusplus >= 201103L
#define PARITY_ALIGN16 alignas(16)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define PARITY_ALIGN16 _Alignas(16)
#else
#define PARITY_ALIGN16 __attribute__((aligned(16)))
#endif
"""
"""`alignas(16)` as C++11, C11 and the compilers of C99 spell it."""


def identifiers(names: Sequence[str]) -> list[str]:
    """A C identifier, and a file name, for each name: letters, digits and `_`; no two alike in any case of letters."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "x"
        plain = f"x{plain}" if plain[0].isdigit() else plain
        unique, n = plain, 1
        while unique.lower() in taken:
            n += 1
            unique = f"{plain}_{n}"
        taken.add(unique.lower())
        found.append(unique)
    return found


def text(value: str) -> str:
    """A C string literal of ASCII: other characters, and those that C would take for its own, as octal escapes."""
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in value.encode())
    return '"' + "".join(plain) + '"'


def comment(value: str) -> str:
    """Text as ASCII that can stand in a C comment."""
    plain = value.replace("*/", "* /").replace("/*", "/ *").replace("²", "^2").replace("\\", "/").replace("?", ".")
    return plain.encode("ascii", "backslashreplace").decode()


def _literals(a: Array) -> Iterable[str]:
    flat = a.reshape(-1)
    if not np.issubdtype(a.dtype, np.floating):
        # The least number has no literal of its own in C: it is an expression.
        lowest = int(np.iinfo(a.dtype).min)
        wide = a.dtype.itemsize >= 4
        return (f"({lowest + 1} - 1)" if wide and v == lowest else str(v) for v in flat.tolist())
    end = "f" if a.dtype == np.float32 else ""
    special = {"inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN"}
    return (special.get(v) or v + end for v in flat.astype(str).tolist())


def _wrapped(literals: Iterable[str]) -> Iterable[str]:
    line = ""
    for literal in literals:
        if line and len(line) + len(literal) + 2 > _LINE:
            yield f"  {line}"
            line = ""
        line += f"{literal}, "
    if line:
        yield f"  {line}"


def array(name: str, a: Array, qualifiers: str = "const") -> str:
    """The definition of an array, in C order, on lines of some hundred characters. ValueError for an empty one."""
    if a.size == 0:
        raise ValueError(f"{name} is empty: C has no empty arrays")
    lines = "\n".join(line.rstrip() for line in _wrapped(_literals(a)))
    return f"{qualifiers} {TYPES[a.dtype.name]} {name}[{a.size}] = {{\n{lines}\n}};\n"


def model(data: bytes, name: str, what: str) -> tuple[str, str]:
    """A model file as a header and a source: `g_<name>_model`, aligned to 16 bytes, and `g_<name>_model_len`."""
    guard, symbol = f"PARITY_{name.upper()}_MODEL_H", f"g_{name}_model"
    header = (
        f"/* {comment(what)}. Made by parity: don't edit. */\n"
        f"#ifndef {guard}\n#define {guard}\n\n"
        '#ifdef __cplusplus\nextern "C" {\n#endif\n\n'
        f"extern const unsigned char {symbol}[{len(data)}];\n"
        f"extern const unsigned int {symbol}_len;\n\n"
        "#ifdef __cplusplus\n}\n#endif\n\n#endif\n"
    )
    bytes_ = "\n".join(
        "  " + ", ".join(f"0x{b:02x}" for b in data[i : i + 16]) + "," for i in range(0, len(data), 16)
    )  # fmt: skip
    source = (
        f'#include "{name}_model.h"\n\n{ALIGN}\n'
        f"PARITY_ALIGN16 const unsigned char {symbol}[{len(data)}] = {{\n{bytes_}\n}};\n"
        f"const unsigned int {symbol}_len = {len(data)};\n"
    )
    return header, source
