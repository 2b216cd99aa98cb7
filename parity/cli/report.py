"""`parity report`: what people and machines read of a run, made again from its records."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from parity.cli.group import PATH, cli, shown

if TYPE_CHECKING:
    from parity.records import Run

FORMATS = ("html", "junit", "json", "markdown", "parquet", "model-explorer")


@cli.command()
@click.argument("folder", type=PATH, metavar="RUN")
@click.argument("later", type=PATH, metavar="[LATER]", required=False)
@click.option("--format", "form", type=click.Choice(FORMATS), help="One of them. Default: html and junit.")
@click.option("--output", "-o", type=PATH, metavar="FILE",
              help="Where it goes (of model-explorer a folder). Default: RUN; json, markdown: printed.")  # fmt: skip
def report(folder: Path, later: Path | None, form: str | None, output: Path | None) -> None:
    """Make a run's reports again, or a page of what changed from RUN to LATER.

    RUN is a folder under reports/; its records alone are read, and nothing is run. The exit code says whether the
    report was made: what the run found is in the report.
    """
    if later is not None:
        _two(folder, later, form, output)
    else:
        _one(folder, form, output)


def _two(a: Path, b: Path, form: str | None, output: Path | None) -> None:
    if form not in (None, "html", "json", "markdown"):
        raise click.UsageError(f"of two runs there is html, json and markdown: take --format {form} away")
    from parity.report import compared, markdown

    if form == "json":
        import msgspec

        _text(msgspec.json.format(msgspec.json.encode(compared.read(a, b)), indent=1).decode() + "\n", output)
    elif form == "markdown":
        _text(markdown.changed(compared.read(a, b)), output)
    else:
        found = compared.read(a, b)
        page = compared.render(found)
        out = output or b / f"since-{a.resolve().name}.html"
        click.echo(f"{', '.join(compared.counts(found))}.")
        _write(out, lambda part: part.write_text(page, encoding="utf-8", errors="backslashreplace"))


def _one(folder: Path, form: str | None, output: Path | None) -> None:
    from parity import records

    run = records.read_run(folder)
    for one in ("html", "junit") if form is None and output is None else (form or "html",):
        _FORMS[one](folder, run, output)


def _html(folder: Path, run: Run, output: Path | None) -> None:
    from parity.report import html

    _write(output or folder / "index.html", lambda out: html.write(folder, run, out))


def _junit(folder: Path, run: Run, output: Path | None) -> None:
    from parity.report import junit

    _write(output or folder / "junit.xml", lambda out: junit.write(folder, run, out))


def _json(folder: Path, run: Run, output: Path | None) -> None:
    _text((folder / "run.json").read_text(encoding="utf-8"), output)


def _markdown(folder: Path, run: Run, output: Path | None) -> None:
    from parity.report import causes, markdown

    _text(markdown.render(run, told=causes.read(folder)), output)


def _parquet(folder: Path, run: Run, output: Path | None) -> None:
    from parity.report import parquet

    _write(output or folder / "verdicts.parquet", lambda out: parquet.write(folder, run, out))


def _model_explorer(folder: Path, run: Run, output: Path | None) -> None:
    from parity.errors import ConfigError, NothingCompared
    from parity.report import model_explorer

    out = output or folder / "model-explorer"
    try:
        written = model_explorer.write(run, out)
    except OSError as e:
        raise ConfigError(f"{out} can't be written: {e.strerror}", "name another: --output DIR") from None
    if not written:
        raise NothingCompared("no ONNX or TensorFlow Lite file was compared", "Model Explorer shows graphs of these")
    click.echo(f"node data of {len(written)} graphs: {shown(out)}")
    click.echo(
        f"look (pip install ai-edge-model-explorer, and of ONNX model-explorer-onnx): {next(iter(written.values()))}"
    )


def _text(words: str, output: Path | None) -> None:
    if output is None:
        click.echo(words, nl=False)
    else:
        _write(output, lambda out: out.write_text(words, encoding="utf-8"))


def _write(out: Path, write: Callable[[Path], object]) -> None:
    """Make a file beside its place, then put it there whole; ConfigError where that can't be.

    What is there and is no plain file (a device, a pipe, a link) is written into: nothing takes its place.
    """
    import tempfile

    from parity.errors import ConfigError

    special = out.is_symlink() or (out.exists() and not out.is_file() and not out.is_dir())
    beside = out.parent if not special else Path(tempfile.mkdtemp())
    part = beside / f".{out.name}.part"
    try:
        write(part)
        if special:
            out.write_bytes(part.read_bytes())
        else:
            os.replace(part, out)
    except OSError as e:
        why = os.strerror(e.errno) if e.errno else str(e)
        raise ConfigError(f"{out} can't be written: {why}", "name another: --output FILE") from None
    finally:
        part.unlink(missing_ok=True)
        if special:
            beside.rmdir()
    click.echo(f"report: {shown(out)}")


_FORMS: dict[str, Callable[[Path, Run, Path | None], None]] = {
    "html": _html, "junit": _junit, "json": _json, "markdown": _markdown, "parquet": _parquet,
    "model-explorer": _model_explorer,
}  # fmt: skip
