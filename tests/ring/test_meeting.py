"""Members of a generation meet, strangers stay outside, and all agree on having a ring."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from trainer.ring import meeting

# A bound for a broken program only.
TIMEOUT_S = 60
PATIENT = meeting.Patience(TIMEOUT_S, TIMEOUT_S)


class Wall:
    """A board of one process."""

    def __init__(self) -> None:
        self._words: dict[str, str] = {}
        self._changed = threading.Condition()

    def put(self, key: str, value: str) -> None:
        with self._changed:
            assert key not in self._words
            self._words[key] = value
            self._changed.notify_all()

    def get(self, key: str, timeout_s: float) -> str:
        with self._changed:
            if not self._changed.wait_for(lambda: key in self._words, timeout_s):
                raise TimeoutError(key)
            return self._words[key]


Ends = tuple[socket.socket, socket.socket]


def begin(
    pool: ThreadPoolExecutor, board: meeting.Board, position: int, members: int, lacking: str = ""
) -> Future[Ends]:
    place = meeting.Place(position, members, "127.0.0.1")
    return pool.submit(meeting.meet, place, board, PATIENT, lacking)


@pytest.mark.parametrize("members", [2, 3, 5])
def test_each_member_is_joined_with_the_next(members: int) -> None:
    with ThreadPoolExecutor(members) as pool:
        board = Wall()
        ends = [f.result() for f in [begin(pool, board, i, members) for i in range(members)]]
    for position, (_, right) in enumerate(ends):
        right.sendall(bytes([position]))
    for position, (left, _) in enumerate(ends):
        assert left.recv(1) == bytes([(position - 1) % members])
    for pair in ends:
        for end in pair:
            end.close()


@pytest.mark.parametrize("one", [0, 2])
def test_without_one_none_of_them_has_a_ring(one: int) -> None:
    with ThreadPoolExecutor(3) as pool:
        board = Wall()
        meetings = [begin(pool, board, i, 3, "no compiler" if i == one else "") for i in range(3)]
        for each in meetings:
            with pytest.raises(meeting.NoRing, match=f"worker {one}: no compiler"):
                each.result()


class Forger(Wall):
    """A board on which one member has another protocol."""

    def put(self, key: str, value: str) -> None:
        if key == "taas/ring/member/1":
            value = json.dumps(json.loads(value) | {"protocol": "0 big"})
        super().put(key, value)


def test_members_of_different_protocols_have_none() -> None:
    with ThreadPoolExecutor(2) as pool:
        board = Forger()
        for each in [begin(pool, board, i, 2) for i in range(2)]:
            with pytest.raises(meeting.NoRing, match="worker 1 speaks 0 big, not 1"):
                each.result()


@pytest.mark.parametrize("shown", [b"", b"x", b"\0" * 32])
def test_a_stranger_without_the_token_is_hung_up_on(shown: bytes) -> None:
    with ThreadPoolExecutor(2) as pool:
        board = Wall()
        first = begin(pool, board, 0, 2)
        # The first waits for the other's word, so the stranger is there before the member.
        port = json.loads(board.get("taas/ring/member/0", TIMEOUT_S))["port"]
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(shown)
            stranger.shutdown(socket.SHUT_WR)
            second = begin(pool, board, 1, 2)
            ends = [*first.result(), *second.result()]
            assert stranger.recv(1) == b""
    ends[1].sendall(b"!")
    assert ends[2].recv(1) == b"!"
    for end in ends:
        end.close()


def test_tokens_are_drawn_anew_for_every_member_and_meeting() -> None:
    tokens = set()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            board = Wall()
            for pair in [f.result() for f in [begin(pool, board, i, 2) for i in range(2)]]:
                for end in pair:
                    end.close()
            for position in range(2):
                word = json.loads(board.get(f"taas/ring/member/{position}", TIMEOUT_S))
                tokens.add(word["token"])
    assert len(tokens) == 4
    assert {len(token) for token in tokens} == {64}


@pytest.mark.parametrize("silent", [0, 1, 2])
def test_with_one_that_says_nothing_the_others_have_none(silent: int) -> None:
    with ThreadPoolExecutor(3) as pool:
        board, patience = Wall(), meeting.Patience(word_s=0.05, verdict_s=0.5)
        places = [meeting.Place(i, 3, "127.0.0.1") for i in range(3) if i != silent]
        for each in [pool.submit(meeting.meet, place, board, patience) for place in places]:
            with pytest.raises(meeting.NoRing, match=f"worker {silent} knows of no ring"):
                each.result()


def test_one_that_is_lost_after_the_verdict_is_an_error() -> None:
    board = Wall()
    word = {"protocol": meeting.PROTOCOL, "lacking": "", "host": "127.0.0.1", "token": "00"}
    with socket.create_server(("127.0.0.1", 0)) as gone:
        word["port"] = gone.getsockname()[1]
        board.put("taas/ring/member/1", json.dumps(word))
    with pytest.raises(OSError, match="refused"):
        meeting.meet(meeting.Place(0, 2, "127.0.0.1"), board, PATIENT)
