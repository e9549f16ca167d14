"""The command line: parse, call, print. Each command is one module here, imported when it is called."""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from rmbench.cli.output import crashed, safe_streams
from rmbench.errors import Exit, RmbenchError

COMMANDS = {
    "eval": "Score a suite with a model: run it, or go on where it stopped.",
    "compare": "Paired differences between runs of the same suite, with intervals.",
    "gate": "Pass, fail or undecided: is a candidate clearly not worse than a baseline?",
    "report": "Tables, plots and one HTML page from the results on disk.",
    "list": "Suites, adapters, bundled models and the runs on disk.",
    "show": "What is in a suite and how its number is made; or the exact text a model gets.",
    "fetch": "Bring the data of suites here for offline use, with hashes.",
    "export": "Runs in other tools' formats.",
    "import": "Other tools' scores or verdicts as runs, marked imported.",
    "doctor": "Versions, devices, extras; with a model: the numerical noise of its scores.",
    "schema": "JSON schema of the files in a run's folder.",
}


class _LazyGroup(click.Group):
    """Commands are imported when used, so that ``--help`` imports nothing heavy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"rmbench.cli.{cmd_name}_")
        command = module.command
        if not isinstance(command, click.Command):
            raise TypeError(f"rmbench.cli.{cmd_name}_.command is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=2, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "see rmbench --help."
            ctx.fail(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, but the exit code is one of ours whatever happens: click's own for an error, an end of input or
        a reader that has gone is 1, which says that a gate failed."""
        args = list(sys.argv[1:] if args is None else args)
        with safe_streams() as out:
            try:
                _refuse_unreadable(args)
                code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra) or Exit.FINE
            except click.ClickException as error:
                error.show()
                code = Exit.USAGE
            except (KeyboardInterrupt, click.Abort):
                code = Exit.UNDECIDED
            if out is not None:
                out.flush()
                if out.failed is not None and out.failed.errno != errno.EPIPE:
                    click.echo(f"Error: cannot write the output: {out.failed.strerror or out.failed}", err=True)
                    code = code or Exit.USAGE
        if standalone_mode:
            sys.exit(int(code))
        return int(code)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except RmbenchError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            click.echo("\nInterrupted: nothing was decided. Run the same command again.", err=True)
            ctx.exit(Exit.UNDECIDED)
        # No command ends by SystemExit: it is another package's, and says nothing about a gate.
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the last boundary
            click.echo(crashed(error), err=True)
            ctx.exit(Exit.CRASH)


def _refuse_unreadable(args: Sequence[str]) -> None:
    """Arguments that are no text become names in files and tables, which could not be written after hours of work."""
    for text in args:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise click.UsageError(
                f"{text!r} is not text in this system's encoding ({sys.getfilesystemencoding()}): rename the file, or "
                "set LC_ALL=C.UTF-8 where its name is UTF-8"
            ) from None


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 fine or passed, 1 the gate failed, 2 wrong usage, 3 could not decide, 4 unexpected error.",
)
@click.version_option(package_name="rmbench", prog_name="rmbench")
def main() -> None:
    """Benchmark reward models and judges: scores that can be trusted, compared and gated."""
    # Importing torch and transformers makes a million objects and no garbage: looking for it while they are made, and
    # once more at the end, was a third of the CPU time of a short run.
    gc.set_threshold(100_000, 50, 50)
    atexit.register(gc.freeze)


if __name__ == "__main__":
    sys.exit(main())
