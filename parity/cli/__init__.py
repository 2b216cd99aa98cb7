"""The commands. Nothing heavy is imported before a command runs: `parity --help` must feel instant."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

import click

# Each registers its commands.
from parity.cli import (  # noqa: F401
    about,
    calibrate,
    compare,
    explain,
    gate,
    golden,
    models,
    recheck,
    report,
    run,
    search,
    target,
)
from parity.cli.group import cli
from parity.errors import BUG, CONFIG, INTERRUPTED, MISMATCH, ParityError
from parity.report import github


def main() -> NoReturn:
    """Entry point: every error becomes a line and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end: as tidily as by Ctrl-C
    try:
        cli.main(standalone_mode=False)
        code = 0
    except click.exceptions.NoArgsIsHelpError as e:
        e.show()
        code = CONFIG
    except click.ClickException as e:
        e.show()
        code = CONFIG
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except ParityError as e:
        code = e.exit_code
        with contextlib.suppress(BrokenPipeError):
            click.echo(f"parity: {github.harmless(e.message)}", err=True)
            if e.hint:
                click.echo(f"hint: {github.harmless(e.hint)}", err=True)
            if github.inside():
                click.echo(github.annotation("error", e.message, "parity"), err=True)
    except BrokenPipeError:
        # Whoever read our output has gone; what was to be said no longer matters, that it failed does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = MISMATCH
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo("parity: this is a bug in parity; please report it with the lines above", err=True)
        code = BUG
    sys.exit(code)
