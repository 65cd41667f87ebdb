"""Makes inputs, runs targets over them, and tells what should not have happened.

An input that brings out an answer of a new kind is kept for a while and changed further. Nothing
depends on anything but the seed.
"""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

CORPUS = Path(__file__).with_name("corpus")
# Of the processor; no input is so large that reading it takes longer.
SLOW_S = 5.0
# Beyond the most that the process has had before; inputs are at most 64 KiB.
LARGE_BYTES = 256 * 1024 * 1024
_MOST_KEPT = 2000
_MOST_BYTES = 1 << 16
_EDGES = (0, 1, 2, 3, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
_DIGITS = re.compile(r"[0-9a-f]{6,}|\d+|b?'.*?'|b?\".*?\"|\\x..")


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads inputs. It may do so in peace, or raise one of the errors that it is
    documented to raise; anything else is a finding. `make` makes an input out of nothing."""

    name: str
    run: Callable[[bytes], object]
    allowed: tuple[type[BaseException], ...]
    seeds: tuple[bytes, ...] = (b"",)
    tokens: tuple[bytes, ...] = ()
    make: Callable[[Random], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """An input, and what it did."""

    target: str
    data: bytes
    what: str


@dataclass
class Tally:
    """What a run over one target came to."""

    inputs: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    # The smallest input of each kind of answer.
    examples: dict[str, bytes] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def known(target: Target) -> list[bytes]:
    """Return the inputs of a target that are kept with the code, those once found included."""
    folder = CORPUS / target.name
    return [path.read_bytes() for path in sorted(folder.glob("*"))] if folder.is_dir() else []


def fuzz(target: Target, inputs: int, seed: int, *, most_findings: int = 20) -> Tally:
    """Run a target over its known inputs and so many new ones."""
    random, tally = Random(f"{target.name} {seed}"), Tally()
    pool = [*target.seeds, *known(target)]
    fixed = len(pool)
    for data in pool[:]:
        _try(target, data, tally)
    while tally.inputs < inputs + fixed and len(tally.findings) < most_findings:
        made = target.make is not None and random.random() < 0.5
        data = target.make(random) if made and target.make else mutated(random, pool, target.tokens)
        if _try(target, data, tally):
            pool.append(data)
            if len(pool) > _MOST_KEPT:
                del pool[random.randrange(fixed, len(pool))]
    return tally


def _try(target: Target, data: bytes, tally: Tally) -> bool:
    """Run one input; return whether the answer was of a new kind."""
    tally.inputs += 1
    began, most = time.process_time(), _most_memory()
    try:
        target.run(data)
        answer = "read"
    except target.allowed as error:
        answer = f"{type(error).__name__}: {_DIGITS.sub('#', str(error))[:120]}"
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"[:300]
        tally.findings.append(Finding(target.name, data, answer))
    took_s = time.process_time() - began
    if took_s > SLOW_S:
        tally.findings.append(Finding(target.name, data, f"took {took_s:.1f} s"))
    grown = _most_memory() - most
    if grown > LARGE_BYTES:
        tally.findings.append(Finding(target.name, data, f"took {grown >> 20} MiB"))
    new = answer not in tally.answers
    tally.answers[answer] = tally.answers.get(answer, 0) + 1
    if new or len(data) < len(tally.examples[answer]):
        tally.examples[answer] = data
    return new


def _most_memory() -> int:
    """Return the most bytes of memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def mutated(random: Random, pool: list[bytes], tokens: Iterable[bytes] = ()) -> bytes:
    """Return an input of the pool with some changes."""
    data = bytearray(random.choice(pool))
    words = tuple(tokens)
    for _ in range(random.choice((1, 1, 1, 2, 3, 5, 9))):
        place = random.randrange(len(data) + 1)
        length = min(random.choice((1, 2, 4, 8, 32, 500)), len(data) - place)
        match random.randrange(9):
            case 0 if data:
                data[place % len(data)] ^= 1 << random.randrange(8)
            case 1 if data:
                data[place % len(data)] = random.randrange(256)
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = random.randbytes(random.choice((1, 2, 4, 16)))
            case 4:
                data[place:place] = data[place : place + length] * random.choice((1, 2, 20))
            case 5:
                width, order = random.choice((1, 2, 4, 8)), random.choice(("big", "little"))
                number = random.choice(_EDGES) % (1 << (8 * width))
                data[place : place + width] = number.to_bytes(width, order)  # type: ignore[arg-type]
            case 6:
                other = random.choice(pool)
                cut = random.randrange(len(other) + 1)
                data[place : place + length] = other[cut : cut + length + 8]
            case 7 if words:
                data[place : place + random.choice((0, length))] = random.choice(words)
            case _:
                del data[place:]
    return bytes(data[:_MOST_BYTES])
