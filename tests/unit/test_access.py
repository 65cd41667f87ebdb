"""Who may do what: the table of calls, answers that are remembered, turns, and pods' tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from controller.access import guard
from controller.access.callers import Action, Caller, PodIdentity
from controller.access.guard import denial, machine
from controller.access.memory import Memory
from controller.access.rules import RULES, Who
from controller.access.turns import Turns
from controller.errors import ClusterUnavailable, InvalidJob, LimitExceeded
from controller.limits import CallLimits
from controller.local.access import PodTokens
from protos.taas.v1 import training_service_pb2 as pb
from protos.taas.v1 import worker_service_pb2
from tests.fakes import FakeAccess

JOB = "namespaces/team/trainingJobs/mnist"
TRAINING = "/taas.v1.TrainingService/"


# --- Requests


async def test_a_request_that_does_not_come_is_given_up() -> None:
    async def never() -> AsyncIterator[object]:
        await asyncio.Event().wait()
        yield

    async def nothing() -> AsyncIterator[object]:
        return
        yield

    tested = guard.Guard(FakeAccess(), Turns(CallLimits()))
    with pytest.raises(LimitExceeded, match=r"did not come whole within 0\.01 s"):
        await guard._one(tested._each("ada", never(), 0.01))
    with pytest.raises(InvalidJob, match="request: is missing"):
        await guard._one(tested._each("ada", nothing(), 1000))


# --- The table


def test_every_call_of_every_service_has_a_rule() -> None:
    files = (
        pb.DESCRIPTOR,
        worker_service_pb2.DESCRIPTOR,
        health_pb2.DESCRIPTOR,
        reflection_pb2.DESCRIPTOR,
    )
    methods = {
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert methods == set(RULES)


def test_only_a_health_check_is_for_everybody() -> None:
    assert [m for m, rule in RULES.items() if rule.who is Who.ANYBODY] == [
        "/grpc.health.v1.Health/Check"
    ]


def test_what_may_hold_megabytes_for_long_is_a_transfer() -> None:
    assert [m.rpartition("/")[2] for m, rule in RULES.items() if rule.transfer] == [
        "DownloadFile",
        "UploadSource",
        "ServerReflectionInfo",
    ]


@pytest.mark.parametrize(
    ("method", "request_", "action"),
    [
        pytest.param(
            "CreateTrainingJob",
            pb.CreateTrainingJobRequest(parent="namespaces/team"),
            Action("create", "team"),
            id="create",
        ),
        pytest.param(
            "ListTrainingJobs",
            pb.ListTrainingJobsRequest(parent="namespaces/team"),
            Action("list", "team"),
            id="list",
        ),
        pytest.param(
            "ListTrainingJobs",
            pb.ListTrainingJobsRequest(parent="namespaces/-"),
            Action("list", ""),
            id="list everywhere",
        ),
        pytest.param(
            "StreamLogs",
            pb.StreamLogsRequest(name=JOB),
            Action("get", "team", "mnist", "log"),
            id="logs",
        ),
        pytest.param(
            "DownloadFile",
            pb.DownloadFileRequest(parent=JOB),
            Action("get", "team", "mnist", "files"),
            id="download",
        ),
        pytest.param(
            "UploadSource",
            pb.UploadSourceRequest(header=pb.UploadSourceHeader(parent="namespaces/team")),
            Action("create", "team", subresource="source"),
            id="upload",
        ),
    ],
)
def test_the_action_is_that_of_the_request(method: str, request_: object, action: Action) -> None:
    rule = RULES[TRAINING + method]
    assert rule.action is not None
    assert rule.action(request_) == action


@pytest.mark.parametrize(
    "name", ["", "mnist", "namespaces/-/trainingJobs/x", "namespaces/a/../trainingJobs/b", "//"]
)
def test_a_name_that_cannot_be_is_no_action(name: str) -> None:
    rule = RULES[f"{TRAINING}GetTrainingJob"]
    assert rule.action is not None
    with pytest.raises(InvalidJob):
        rule.action(pb.GetTrainingJobRequest(name=name))


def test_a_denial_says_who_what_where_and_what_to_do() -> None:
    text = denial(Caller("ada"), Action("get", "team", "mnist", "log"), "no such role")
    assert text == (
        "ada may not get trainingjobs/log 'mnist' in namespace 'team' (no such role); ask who "
        "administers it for a role that allows this, such as edit"
    )
    assert "list trainingjobs in all namespaces together" in denial(
        Caller("ada"), Action("list", ""), ""
    )


# --- What is remembered


class Asked:
    """Answers with the number of the question, when it is let."""

    def __init__(self) -> None:
        self.count = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, key: str) -> int:
        self.count += 1
        count = self.count
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return count


def memory(asked: Asked, *, keep_s: float = 1000, most: int = 10) -> Memory[str, int]:
    return Memory(asked, lambda _: keep_s, most=most, at_once=1, waiting=10)


async def test_many_who_ask_at_once_ask_once() -> None:
    asked = Asked()
    remembered = memory(asked)
    waiting = [asyncio.create_task(remembered.get("a")) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    asked.go.set()
    assert await asyncio.gather(*waiting[1:]) == [1] * 4
    assert await remembered.get("a") == 1


async def test_an_answer_is_good_for_its_time_only() -> None:
    asked = Asked()
    asked.go.set()
    remembered = memory(asked, keep_s=0)
    assert [await remembered.get("a"), await remembered.get("a")] == [1, 2]


async def test_an_error_is_told_to_all_and_not_kept() -> None:
    asked = Asked()
    asked.error = ClusterUnavailable("away")
    remembered = memory(asked)
    waiting = [asyncio.create_task(remembered.get("a")) for _ in range(2)]
    await asyncio.sleep(0)
    asked.go.set()
    for task in waiting:
        with pytest.raises(ClusterUnavailable):
            await task
    asked.error = None
    assert await remembered.get("a") == 2


async def test_memory_and_questions_are_bounded() -> None:
    asked = Asked()
    remembered = memory(asked, most=2)
    waiting = [asyncio.create_task(remembered.get(str(n))) for n in range(11)]
    await asyncio.sleep(0)
    with pytest.raises(ClusterUnavailable, match="too many callers"):
        await remembered.get("one more")
    asked.go.set()
    await asyncio.gather(*waiting)
    assert await remembered.get("10") == 11
    assert await remembered.get("0") == 12


# --- Turns


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:10.0.0.7:40312", "ipv4:10.0.0.7"),
        ("ipv6:%5Bfd00::7%5D:40312", "ipv6:%5Bfd00::7%5D"),
        ("unix:", "unix:"),
        ("unix:/run/taas.sock", "unix:/run/taas.sock"),
        ("", ""),
    ],
)
def test_callers_that_need_not_be_known_are_told_apart_by_their_machine(
    peer: str, expected: str
) -> None:
    assert machine(peer) == expected


async def test_a_callers_calls_take_turns_and_leave_others_alone() -> None:
    turns = Turns(CallLimits(calls=1, waiting=1, streams=1))
    began: list[str] = []
    go = asyncio.Event()

    async def call(caller: str) -> None:
        async with turns.call(caller):
            began.append(caller)
            await go.wait()

    first, second = (asyncio.create_task(call("ada")) for _ in range(2))
    await asyncio.sleep(0)
    with pytest.raises(LimitExceeded, match="ada has 2 calls under way, the most are 2"):
        await call("ada")
    other = asyncio.create_task(call("bob"))
    await asyncio.sleep(0)
    assert began == ["ada", "bob"]
    go.set()
    await asyncio.gather(first, second, other)
    assert began == ["ada", "bob", "ada"]


async def test_a_callers_transfers_take_turns_and_leave_his_other_streams_alone() -> None:
    turns = Turns(CallLimits(transfers=1))
    began: list[str] = []
    go = asyncio.Event()

    async def transfer(caller: str) -> None:
        async with turns.transfer(caller):
            began.append(caller)
            await go.wait()

    transfers = [asyncio.create_task(transfer(caller)) for caller in ("ada", "ada", "bob")]
    await asyncio.sleep(0)
    async with turns.stream("ada"):
        assert began == ["ada", "bob"]
    go.set()
    await asyncio.gather(*transfers)
    assert began == ["ada", "bob", "ada"]


async def test_streams_are_counted_for_each_caller() -> None:
    turns = Turns(CallLimits(streams=1))
    async with turns.stream("ada"), turns.stream("bob"):
        with pytest.raises(LimitExceeded, match="ada has 1 streams open, the most are 1"):
            async with turns.stream("ada"):
                pass
    async with turns.stream("ada"):
        pass


# --- Tokens of pods


def test_a_token_tells_its_pod_also_to_a_later_controller(tmp_path: Path) -> None:
    token = PodTokens.of(tmp_path).token("pod-1")
    later = PodTokens.of(tmp_path)
    assert later.uid(token) == "pod-1"
    assert (tmp_path / "pods.key").stat().st_mode & 0o777 == 0o600
    digest = token.removeprefix("pod-1.")
    for forged in ("", ".", "pod-1", "pod-1.", f"pod-2.{digest}", f".{digest}", f"{token}é"):
        assert later.uid(forged) is None


def test_tokens_of_another_service_are_worth_nothing(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert PodTokens.of(tmp_path).uid(PodTokens.of(tmp_path / "other").token("pod-1")) is None


@pytest.mark.parametrize(
    ("identity", "namespace", "uid", "same"),
    [
        (PodIdentity("u"), "a", "u", True),
        (PodIdentity("u", "a"), "a", "u", True),
        (PodIdentity("u", "b"), "a", "u", False),
        (PodIdentity("v", "a"), "a", "u", False),
        (PodIdentity("u", "a"), "a", "", False),
    ],
)
def test_a_pod_is_itself_alone(identity: PodIdentity, namespace: str, uid: str, same: bool) -> None:
    assert identity.is_of(namespace, uid) is same
