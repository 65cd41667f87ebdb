"""The command line: `taas COMMAND ...`. One module a group of commands; this one joins them."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence

try:
    from taas.cli import files, follow, jobs, local, predict, serve, submit, tensorboard
    from taas.cli.context import Context, ExitCode, Out, exit_code_of
    from taas.errors import ServiceUnavailable, TaasError
    from taas.service import LocalService
except KeyboardInterrupt:
    # Loading takes long enough to be interrupted; nothing has been done yet.
    raise SystemExit(130) from None

_EPILOG = """\
examples:
  taas run examples/mnist_lenet5 --workers 2     train on this machine, fetch the model
  taas submit ./mnist -p epochs=5 --watch        submit to a service
  taas watch mnist                               come back to it
  taas tensorboard mnist mnist-2                 see their curves side by side
  taas predict mnist digit.png                   use its model
  taas serve mnist                               let programs ask it

exit codes:
  0 success   1 the job failed or was cancelled   2 bad usage or request
  3 the service does not answer or is broken      4 not found            130 Ctrl-C

environment:
  TAAS_TARGET  gRPC target of the service (host:port or unix:PATH)
  TAAS_TOKEN_FILE, TAAS_CA_FILE, TAAS_SERVER_NAME
               who you are to a service over a network, and by what that is known
  TAAS_HOME    state folder of the service on this machine
"""


def main(argv: Sequence[str] | None = None, *, service: LocalService | None = None) -> int:
    """Run one command and return its exit code. `service` is the one on this machine."""
    try:
        args = _parser().parse_args(argv)
        for stream in (sys.stdout, sys.stderr):
            # A name that this terminal cannot show must not end the command.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        out = Out(as_json=args.output == "json")
        with _ended_by_signals():
            return _run(args, out, service)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough. Nothing may be written at exit, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK


def _run(args: argparse.Namespace, out: Out, service: LocalService | None) -> int:
    try:
        context = Context(
            args=args,
            out=out,
            local=service or LocalService(),
            target=args.target or os.environ.get("TAAS_TARGET", ""),
        )
    except TaasError as error:
        out.error(error)
        return exit_code_of(error)
    try:
        code: int = args.run(context)
        return code
    except ServiceUnavailable as error:
        out.error(_explained(error, context))
        return ExitCode.SERVICE
    except TaasError as error:
        out.error(error)
        return exit_code_of(error)
    except BrokenPipeError:
        raise
    except Exception:  # the last line of the program: a defect of ours
        return _unexpected(context)


def _explained(error: ServiceUnavailable, context: Context) -> ServiceUnavailable:
    """Say what to do when there is no service on this machine."""
    if error.answered or context.target or context.local.target not in str(error):
        return error
    return ServiceUnavailable(
        f"no service runs at {context.local.target}; start one with `taas up`, or name another "
        "with --target"
    )


def _unexpected(context: Context) -> ExitCode:
    trace = traceback.format_exc()
    log = context.local.home / "cli.log"
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"{context.now().isoformat()} taas {' '.join(sys.argv[1:])}\n{trace}\n")
        where = f"; {log} says where"
    except OSError:
        where = f"\n{trace}"
    last = trace.strip().splitlines()[-1]
    context.out.error(TaasError(f"a defect in this program: {last}{where}"))
    return ExitCode.SERVICE


def _parser() -> argparse.ArgumentParser:
    options = _common(argparse.SUPPRESS)
    parser = _TopParser(
        prog="taas",
        description="TensorFlow as a Service: distributed training jobs.",
        epilog=_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
        parents=[_common(None)],
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for module in (submit, jobs, follow, files, predict, serve, tensorboard, local):
        module.register(commands, options)
    return parser


class _Formatter(argparse.HelpFormatter):
    """Wraps descriptions, and leaves examples of several lines as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class _TopParser(argparse.ArgumentParser):
    """Parses the whole line. What follows `--` of a command that takes a program's words is left
    alone: argparse would look for options and names in it."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        words = list(sys.argv[1:] if args is None else args)
        if "--" not in words:
            return super().parse_args(words, namespace)
        place = words.index("--")
        found = super().parse_args(words[:place], namespace)
        if not hasattr(found, "words"):
            return super().parse_args(words, namespace)
        found.words = tuple(words[place + 1 :])
        return found


class _Parser(argparse.ArgumentParser):
    """A command's parser: options are not guessed."""

    def __init__(self, **options: object) -> None:
        super().__init__(
            formatter_class=_Formatter,
            allow_abbrev=False,
            **options,  # type: ignore[arg-type]
        )


def _common(unset: str | None) -> argparse.ArgumentParser:
    """Return the options that go before and after the command. Those after it win, and say
    nothing (`unset` is SUPPRESS) when they are not there."""
    suppressed = unset is not None
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = common.add_argument_group("the service and its answers")
    group.add_argument(
        "--target",
        metavar="TARGET",
        default=unset if suppressed else "",
        help="service to call: host:port or unix:PATH; by default $TAAS_TARGET, else the one on "
        "this machine",
    )
    group.add_argument(
        "--token-file",
        metavar="FILE",
        default=unset if suppressed else "",
        help="file with the token that says who you are; by default $TAAS_TOKEN_FILE",
    )
    group.add_argument(
        "--ca-file",
        metavar="FILE",
        default=unset if suppressed else "",
        help="certificates by which the service is known; by default $TAAS_CA_FILE",
    )
    group.add_argument(
        "-n",
        "--namespace",
        default=unset if suppressed else "default",
        help='namespace of the jobs ("default")',
    )
    group.add_argument(
        "--output",
        choices=("text", "json"),
        default=unset if suppressed else "text",
        help="form of the answer (text)",
    )
    return common


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program the orderly way, so that the terminal is restored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
