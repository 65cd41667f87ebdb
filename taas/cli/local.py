"""Commands about the service itself: up, down, version."""

from __future__ import annotations

from typing import Any

import taas
from taas.cli.context import Context, ExitCode
from taas.errors import TaasError


def register(commands: Any, common: Any) -> None:
    """Add the commands to the parser."""
    up = commands.add_parser(
        "up",
        parents=[common],
        help="start a service on this machine",
        description="Starts a service on this machine that stays, unless one runs. "
        "Its state lies in $TAAS_HOME, else $XDG_STATE_HOME/taas, else ~/.local/state/taas.",
    )
    up.set_defaults(run=run_up)
    down = commands.add_parser(
        "down",
        parents=[common],
        help="stop the service on this machine",
        description="Stops the service on this machine. Workers save and stop; their jobs go on "
        "at the next `taas up`.",
    )
    down.add_argument("--keep-jobs", action="store_true", help="let the workers go on training")
    down.set_defaults(run=run_down)
    version = commands.add_parser(
        "version", parents=[common], help="show versions of this program and of the service"
    )
    version.set_defaults(run=run_version)


def run_up(ctx: Context) -> ExitCode:
    """Start the service."""
    started = ctx.local.start(lasting=True, on_wait=ctx.out.note)
    info = ctx.local.info()
    fields = {
        "started": started,
        "target": ctx.local.target,
        "home": str(ctx.local.home),
        "log": str(ctx.local.log),
        "pid": info.pid if info else 0,
        "version": info.version if info else "",
    }
    if ctx.out.as_json:
        ctx.out.document(fields)
    else:
        ctx.out.line(f"the service {'is up' if started else 'was up already'}: {ctx.local.target}")
        ctx.out.line(f"state and log: {ctx.local.home}")
    return ExitCode.OK


def run_down(ctx: Context) -> ExitCode:
    """Stop the service."""
    stopped = ctx.local.stop(keep_jobs=ctx.args.keep_jobs, on_wait=ctx.out.note)
    if ctx.out.as_json:
        ctx.out.document({"stopped": stopped, "home": str(ctx.local.home)})
    else:
        ctx.out.line("the service is down" if stopped else "no service was running")
    return ExitCode.OK


def run_version(ctx: Context) -> ExitCode:
    """Show versions; a service that does not answer is no error here."""
    target = ctx.target or ctx.local.target
    fields = {"client": taas.__version__, "target": target, "service": "", "backend": ""}
    try:
        with ctx.client(retry_for_s=0.0) as client:
            info = client.service_info()
            fields |= {"service": info.version, "backend": info.backend}
    except TaasError as error:
        fields["error"] = str(error)
    if ctx.out.as_json:
        ctx.out.document(fields)
    else:
        ctx.out.line(f"taas {fields['client']}")
        service = f"{fields['service']} ({fields['backend']})" if fields["service"] else "no answer"
        ctx.out.line(f"service {service} at {target}")
    return ExitCode.OK
