"""Any value of the domain that can be stored, for property tests."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import strategies as st

from controller.ledger import Ledger, Lost, Part, RestartCost
from controller.model import (
    Checkpoint,
    CheckpointPolicy,
    Command,
    Failure,
    InitFrom,
    Job,
    JobKey,
    LogEntry,
    Phase,
    PodOptions,
    Progress,
    Rewind,
    Script,
    Source,
    Spec,
    StateChange,
    Status,
    StorageTrouble,
    Task,
    Worker,
    WorkerChange,
    WorkerState,
)

times = st.datetimes(
    min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
)
maybe_times = st.none() | times
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
int32s = st.integers(0, 2**31 - 1)
int64s = st.integers(0, 2**63 - 1)
doubles = st.floats(allow_nan=False)
metrics = st.dictionaries(texts, doubles, max_size=3).map(lambda d: tuple(sorted(d.items())))
pairs = st.dictionaries(texts, texts, max_size=3).map(lambda d: tuple(sorted(d.items())))
progresses = st.builds(
    Progress,
    step=int64s,
    total_steps=int64s,
    epoch=doubles,
    loss=doubles,
    metrics=metrics,
    examples_per_second=doubles,
    seconds_left=st.none() | doubles,
    starved_fraction=doubles,
)
checkpoints = st.builds(
    Checkpoint,
    id=texts,
    step=int64s,
    generation=int32s,
    size_bytes=int64s,
    created=times,
    metrics=metrics,
)
failures = st.builds(
    Failure,
    reason=texts,
    message=texts,
    worker=st.integers(-1, 9),
    exit_code=st.integers(-(2**31), 2**31 - 1),
    signal=int32s,
    details=texts,
    generation=int32s,
    time=maybe_times,
)
workers = st.builds(
    Worker, index=int32s, state=st.sampled_from(WorkerState), reason=texts, pod=texts
)
losts = st.builds(
    Lost, detection=doubles, stop=doubles, start=doubles, restore=doubles, recompute=doubles
)
costs = st.builds(
    RestartCost, generation=int32s, reason=texts, lost=losts, steps=int64s, over=st.booleans()
)
ledgers = st.builds(
    Ledger,
    part=st.none() | st.sampled_from(Part),
    since=maybe_times,
    useful=doubles,
    other=doubles,
    lost=losts,
    furthest_step=int64s,
    restarts=st.lists(costs, max_size=2).map(tuple),
)
statuses = st.builds(
    Status,
    phase=st.sampled_from(Phase),
    phase_since=maybe_times,
    message=texts,
    generation=int32s,
    members=st.lists(int32s, max_size=3).map(tuple),
    addresses=st.lists(texts, max_size=3).map(tuple),
    generation_ended=st.booleans(),
    stopping=st.booleans(),
    workers=st.lists(workers, max_size=2).map(tuple),
    progress=progresses,
    progress_at=maybe_times,
    last_checkpoint=st.none() | checkpoints,
    restarts=int32s,
    restarts_by_reason=st.dictionaries(texts, int32s, max_size=2).map(
        lambda d: tuple(sorted(d.items()))
    ),
    crashes=int32s,
    futile_restarts=int32s,
    failed_at_step=int64s,
    restart_after=maybe_times,
    last_failure=st.none() | failures,
    started=maybe_times,
    finished=maybe_times,
    last_event=int64s,
    storage_trouble=st.none() | st.builds(StorageTrouble, texts, times),
    ledger=ledgers,
)
policies = st.builds(
    CheckpointPolicy,
    every_steps=int32s,
    every_seconds=st.integers(1, 2**31 - 1),
    keep_last=st.integers(1, 2**31 - 1),
    best_metric=texts,
    best_mode=st.sampled_from(["max", "min"]),
    keep_every_steps=int32s,
) | st.builds(
    CheckpointPolicy,
    every_steps=st.integers(1, 2**31 - 1),
    every_seconds=st.just(0),
    keep_last=st.integers(1, 9),
)
templates = st.recursive(
    st.none() | st.booleans() | int32s | st.just(0.5) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
pods = st.builds(
    PodOptions,
    image=texts,
    image_pull_policy=texts,
    requests=pairs,
    limits=pairs,
    gpus=int32s,
    gpu_resource=texts.filter(bool),
    node_selector=pairs,
    priority_class_name=texts,
    service_account_name=texts,
    template=st.just("")
    | st.dictionaries(texts, templates, min_size=1, max_size=2).map(
        lambda template: json.dumps(template, sort_keys=True)
    ),
)
words = st.lists(texts, max_size=3).map(tuple)
specs = st.builds(
    Spec,
    program=st.builds(Task, texts)
    | st.builds(Script, texts, words, distribute=st.booleans(), own_checkpoints=st.booleans()),
    source=st.none() | st.builds(Source, texts, int64s),
    workers=st.integers(1, 2**31 - 1),
    min_workers=st.integers(1, 2**31 - 1),
    elastic_wait_s=st.integers(1, 2**31 - 1),
    parameters=pairs,
    env=pairs,
    checkpoints=policies,
    max_restarts=int32s,
    active_deadline_s=st.none() | st.integers(1, 2**31 - 1),
    start_deadline_s=st.integers(1, 2**31 - 1),
    progress_deadline_s=st.integers(1, 2**31 - 1),
    ttl_after_finished_s=st.none() | int32s,
    grace_s=st.integers(1, 3600),
    suspend=st.booleans(),
    cancel=st.booleans(),
    pod=pods,
    storage_claim=texts.filter(bool),
    init_from=st.none() | st.builds(InitFrom, texts, int64s),
    rewind=st.none() | st.builds(Rewind, int64s, int32s),
    evaluator=st.booleans(),
)
# A command has no deadline for steps.
specs |= st.builds(
    lambda spec, words: replace(spec, program=Command(words), progress_deadline_s=None),
    specs,
    words,
)
labels = st.text("abcxyz019-", min_size=1, max_size=9)
jobs = st.builds(
    Job,
    key=st.builds(JobKey, labels, labels),
    uid=texts,
    created=times,
    spec=specs,
    labels=pairs,
    request_id=texts,
    fingerprint=texts,
    deleting=maybe_times,
    version=texts,
    status=statuses,
)
state_changes = st.builds(
    StateChange,
    before=st.sampled_from(Phase),
    after=st.sampled_from(Phase),
    generation=int32s,
    message=texts,
    failure=st.none() | failures,
)
worker_changes = st.builds(
    WorkerChange,
    index=int32s,
    before=st.sampled_from(WorkerState),
    after=st.sampled_from(WorkerState),
    generation=int32s,
    message=texts,
)
entries = st.builds(
    LogEntry, number=int64s, time=times, change=state_changes | worker_changes | costs
)
