"""Who is there: the agents that have called, what they said last, and the way to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from controller import wire_workers
from controller.live import Live, LiveJob
from controller.model import Job, JobKey, MemberSeen, Order
from protos.taas.v1 import worker_service_pb2 as pb

_log = logging.getLogger(__name__)

# Orders are few and repeatable; an agent that does not read them is cut off and calls again.
_ORDERS_QUEUED = 64


@dataclass
class Connection:
    """One agent's open stream."""

    key: JobKey
    uid: str
    member: MemberSeen
    live: LiveJob
    orders: asyncio.Queue[pb.ConnectResponse] = field(
        default_factory=lambda: asyncio.Queue(_ORDERS_QUEUED)
    )
    # Set when the stream is to end: its orders are not read, or its pod is not the job's any more.
    cut: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, order: pb.ConnectResponse) -> None:
        try:
            self.orders.put_nowait(order)
        except asyncio.QueueFull:
            self.cut.set()


class Workers:
    """All agents that have called since this controller started, by job and index."""

    def __init__(self, live: Live, dirty: Callable[[JobKey], None]) -> None:
        self._live = live
        self._dirty = dirty
        self._members: dict[str, dict[int, MemberSeen]] = {}
        self._connections: dict[tuple[str, int], Connection] = {}

    def connected(self) -> int:
        """Return how many agents are connected."""
        return len(self._connections)

    def members(self, uid: str) -> tuple[MemberSeen, ...]:
        """Return what is known of a job's workers, by index."""
        return tuple(m for _, m in sorted(self._members.get(uid, {}).items()))

    def send(self, job: Job, orders: Iterable[Order], assignment: str) -> None:
        """Pass orders to the agents that are connected; the others get them when they call."""
        for order in orders:
            connection = self._connections.get((job.uid, order.index))
            if connection is not None:
                connection.send(wire_workers.order_to_wire(order, assignment))

    def follow_log(self, uid: str, index: int, offset: int) -> None:
        """Let a worker send its log from that offset on; counted, see unfollow_log. The caller
        holds the job's memories until then."""
        followers = self._live.job(uid).log_followers
        followers[index] = followers.get(index, 0) + 1
        connection = self._connections.get((uid, index))
        if connection is not None and followers[index] == 1:
            connection.send(_follow(offset))

    def unfollow_log(self, uid: str, index: int) -> None:
        """Undo one follow_log."""
        followers = self._live.job(uid).log_followers
        followers[index] = max(0, followers.get(index, 0) - 1)
        connection = self._connections.get((uid, index))
        if connection is not None and followers[index] == 0:
            connection.send(pb.ConnectResponse(follow_log=pb.FollowLog(follow=False)))

    def believe_only(self, uid: str, pods: Collection[str]) -> None:
        """Cut the streams of a job's workers that live in none of these pods: whatever they say
        now, they do not say it for the job any more."""
        for index, member in self._members.get(uid, {}).items():
            connection = self._connections.get((uid, index))
            if connection is not None and member.pod_uid not in pods:
                connection.cut.set()

    def forget(self, uid: str) -> None:
        """Drop what is known of a job that is gone or final."""
        self.believe_only(uid, ())
        self._members.pop(uid, None)

    def connect(self, key: JobKey, uid: str, member: MemberSeen) -> Connection:
        """Register an agent's stream; an older stream of the same worker is superseded."""
        connection = Connection(key, uid, member, self._live.job(uid))
        before = self._connections.get((uid, member.index))
        if before is not None:
            before.cut.set()
        self._connections[uid, member.index] = connection
        if connection.live.log_followers.get(member.index):
            connection.send(_follow(max(0, connection.live.log_end(member.index))))
        self.update(connection, member)
        connection.live.forget_records()
        return connection

    def update(self, connection: Connection, member: MemberSeen) -> None:
        """Take what an agent says now; a superseded stream is not listened to."""
        current = self._connections.get((connection.uid, member.index))
        if current is not connection or connection.cut.is_set():
            return
        before, connection.member = connection.member, member
        self._members.setdefault(connection.uid, {})[member.index] = member
        if _plain(before) != _plain(member) or before is member:
            self._dirty(connection.key)

    def disconnect(self, connection: Connection, now: datetime) -> None:
        """Note that a stream has ended; the worker may call again."""
        place = (connection.uid, connection.member.index)
        if self._connections.get(place) is connection:
            del self._connections[place]
            members = self._members.get(connection.uid)
            if members is not None:
                members[connection.member.index] = replace(
                    connection.member, connected=False, heard=now
                )
            self._dirty(connection.key)


def _plain(member: MemberSeen) -> tuple[Any, ...]:
    """What of a member is worth a decision; steps are looked at when the job's timer says so."""
    checkpoint = member.checkpoint.id if member.checkpoint else ""
    making_steps = member.step > 0
    return (
        member.pod_uid,
        member.address,
        member.connected,
        member.running,
        member.stage,
        making_steps,
        member.exited,
        checkpoint,
        member.saving_fails,
    )


def _follow(offset: int) -> pb.ConnectResponse:
    return pb.ConnectResponse(follow_log=pb.FollowLog(follow=True, offset=offset))
