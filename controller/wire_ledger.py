"""The books of a job, from and to the wire, without loss. Pure."""

from __future__ import annotations

from controller.ledger import Ledger, Lost, Part, RestartCost
from controller.wire_values import by_number, member, moment, stamp
from protos.taas.v1 import job_pb2

_PARTS = by_number(Part, job_pb2.TimePart.DESCRIPTOR, "TIME_PART_")


def ledger_to_wire(ledger: Ledger) -> job_pb2.Accounting | None:
    """Return the books as a wire message, None for those of a job that has not begun."""
    if ledger == Ledger():
        return None
    return job_pb2.Accounting(
        useful_seconds=ledger.useful,
        other_seconds=ledger.other,
        lost=_lost_to_wire(ledger.lost),
        restarts=[cost_to_wire(cost) for cost in ledger.restarts],
        part=f"TIME_PART_{ledger.part.value}" if ledger.part else None,
        since=stamp(ledger.since),
        furthest_step=ledger.furthest_step,
    )


def ledger_from_wire(accounting: job_pb2.Accounting) -> Ledger:
    """Return the books as the domain has them. Raises InvalidJob."""
    number = accounting.part
    return Ledger(
        part=member(_PARTS, number, "accounting.part") if number else None,
        since=moment(accounting, "since"),
        useful=accounting.useful_seconds,
        other=accounting.other_seconds,
        lost=_lost_from_wire(accounting.lost),
        furthest_step=accounting.furthest_step,
        restarts=tuple(cost_from_wire(cost) for cost in accounting.restarts),
    )


def cost_to_wire(cost: RestartCost) -> job_pb2.RestartCost:
    """Return what a restart cost as a wire message."""
    return job_pb2.RestartCost(
        generation=cost.generation,
        reason=cost.reason,
        lost=_lost_to_wire(cost.lost),
        steps_recomputed=cost.steps,
        over=cost.over,
    )


def cost_from_wire(cost: job_pb2.RestartCost) -> RestartCost:
    """Return what a restart cost as the domain has it."""
    lost = _lost_from_wire(cost.lost)
    return RestartCost(cost.generation, cost.reason, lost, cost.steps_recomputed, cost.over)


def _lost_to_wire(lost: Lost) -> job_pb2.LostTime:
    return job_pb2.LostTime(
        detection_seconds=lost.detection,
        stop_seconds=lost.stop,
        start_seconds=lost.start,
        restore_seconds=lost.restore,
        recompute_seconds=lost.recompute,
    )


def _lost_from_wire(lost: job_pb2.LostTime) -> Lost:
    return Lost(
        detection=lost.detection_seconds,
        stop=lost.stop_seconds,
        start=lost.start_seconds,
        restore=lost.restore_seconds,
        recompute=lost.recompute_seconds,
    )
