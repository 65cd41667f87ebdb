"""What every command needs: its arguments, the service it calls, and where its words go."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console

from taas import names, tables
from taas.access import Access
from taas.client import Client
from taas.errors import (
    InternalError,
    InvalidRequest,
    NotFound,
    ServiceUnavailable,
    TaasError,
    TimedOut,
    Unauthenticated,
)
from taas.service import LocalService


class ExitCode(IntEnum):
    """How a command ends."""

    OK = 0
    # The job failed or was cancelled.
    JOB_FAILED = 1
    # Bad usage (argparse uses the same number), or a request that the service refuses.
    USAGE = 2
    # The service does not answer, or is broken.
    SERVICE = 3
    NOT_FOUND = 4
    # By Ctrl-C; 128 + SIGINT, as shells have it.
    INTERRUPTED = 130


def exit_code_of(error: TaasError) -> ExitCode:
    """Return how a command ends that met this error."""
    if isinstance(error, NotFound):
        return ExitCode.NOT_FOUND
    if isinstance(error, (ServiceUnavailable, TimedOut, InternalError, Unauthenticated)):
        return ExitCode.SERVICE
    return ExitCode.USAGE


class Out:
    """Standard output and error of a command. With `as_json` only JSON goes to the former."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=False)
        self.error_console = Console(file=sys.stderr, highlight=False)

    @property
    def terminal(self) -> bool:
        """True when a person looks at standard output and lines can be drawn over."""
        return sys.stdout.isatty() and not self.as_json and not self.console.is_dumb_terminal

    def line(self, text: str) -> None:
        """Write a line to standard output, at once."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def text(self, text: str) -> None:
        """Write a line for people: left out when JSON is wanted."""
        if not self.as_json:
            self.line(text)

    def note(self, text: str) -> None:
        """Write a line to standard error, which no program parses."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def document(self, value: Message | Mapping[str, Any]) -> None:
        """Write the one JSON document of a command."""
        self.line(json.dumps(_plain(value), indent=2, ensure_ascii=False))

    def item(self, **values: Message | Mapping[str, Any]) -> None:
        """Write one line of a JSON stream: an object whose key says what it is."""
        plain = {key: _plain(value) for key, value in values.items()}
        self.line(json.dumps(plain, ensure_ascii=False))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table on a terminal, aligned columns elsewhere."""
        if self.terminal:
            tables.print_table(self.console, columns, rows)
        else:
            for line in tables.aligned(columns, rows):
                self.line(line)

    def error(self, error: TaasError) -> None:
        """Write an error to standard error, as JSON if that is wanted."""
        if not self.as_json:
            self.note(f"error: {_shown(error)}")
            return
        fields: dict[str, Any] = {"kind": type(error).__name__, "message": _shown(error)}
        if isinstance(error, InvalidRequest):
            fields["violations"] = [{"field": v.field, "why": v.why} for v in error.violations]
        self.note(json.dumps({"error": fields}, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class Context:
    """One call of one command."""

    args: argparse.Namespace
    out: Out
    local: LocalService
    # gRPC target named by --target or $TAAS_TARGET; "" for the service on this machine.
    target: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def client(self, *, retry_for_s: float = 5.0) -> Client:
        """Return a client of the service that the command is for."""
        if self.target:
            access = Access.of(
                os.environ, token_file=self.args.token_file, ca_file=self.args.ca_file
            )
            return Client(self.target, self.args.namespace, access=access, retry_for_s=retry_for_s)
        return self.local_client(retry_for_s=retry_for_s)

    def local_client(self, *, retry_for_s: float = 5.0) -> Client:
        """Return a client of the service on this machine, whatever the target is."""
        # One that was killed leaves its socket; where there is none, waiting is in vain.
        if not self.local.socket.exists():
            retry_for_s = 0.0
        return Client(self.local.target, self.args.namespace, retry_for_s=retry_for_s)

    def short(self, name: str) -> str:
        """Return what the user would type for a resource name."""
        return names.short_name(name, self.args.namespace)

    def command(self, words: str) -> str:
        """Return a command line to suggest, with what this one had to say to get here."""
        line = f"taas {words}"
        return f"{line} --target {self.args.target}" if self.args.target else line


def _plain(value: Message | Mapping[str, Any]) -> Any:
    return json_format.MessageToDict(value) if isinstance(value, Message) else dict(value)


def _shown(error: TaasError) -> str:
    """Return the text of an error; fields are named as the user wrote them."""
    return str(error).replace("trainingJob.spec.", "spec.").replace("trainingJobId: ", "name: ")
