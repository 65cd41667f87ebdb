"""A name is taken as it is, or refused with a better one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import parse_names, wire
from controller.errors import InvalidJob
from controller.model import JobKey
from tests.unit.create_requests import new, refusal, request


@pytest.mark.parametrize(
    ("name", "key"),
    [
        pytest.param("namespaces/vision/trainingJobs/mnist", JobKey("vision", "mnist"), id="plain"),
        pytest.param("namespaces/a/trainingJobs/b", JobKey("a", "b"), id="one letter each"),
        pytest.param("namespaces/0/trainingJobs/1a-2", JobKey("0", "1a-2"), id="digits"),
        pytest.param(
            f"namespaces/{'n' * 63}/trainingJobs/{'j' * 52}",
            JobKey("n" * 63, "j" * 52),
            id="longest",
        ),
    ],
)
def test_a_job_name_is_parsed(name: str, key: JobKey) -> None:
    assert parse_names.job_name(name, "name") == key
    assert wire.resource_name(key) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("", "for example namespaces/default/trainingJobs/mnist", id="empty"),
        pytest.param("mnist", "namespaces/default/trainingJobs/mnist", id="bare id"),
        pytest.param("My_Job", "namespaces/default/trainingJobs/my-job", id="bare bad id"),
        pytest.param("namespaces/a", "does not name a job", id="namespace"),
        pytest.param("namespaces/a/jobs/b", "does not name a job", id="another collection"),
        pytest.param("projects/a/trainingJobs/b", "does not name a job", id="another root"),
        pytest.param("/namespaces/a/trainingJobs/b", "does not name a job", id="leading slash"),
        pytest.param("namespaces/a/trainingJobs/b/", "does not name a job", id="trailing slash"),
        pytest.param("namespaces/a/trainingJobs/b/c", "does not name a job", id="too deep"),
        pytest.param(
            "namespaces//trainingJobs/b", "'' is not a valid namespace", id="no namespace"
        ),
        pytest.param("namespaces/-/trainingJobs/b", "'-' is not a valid namespace", id="wildcard"),
        pytest.param("namespaces/a/trainingJobs/", "'' is not a valid job id", id="no id"),
        pytest.param("namespaces/a/trainingJobs/My_Job", "try 'my-job'", id="bad id"),
        pytest.param("namespaces/Ä B/trainingJobs/b", "try 'a-b'", id="bad namespace"),
        pytest.param("namespaces/a/trainingJobs/..", "'..' is not a valid job id", id="dots"),
        pytest.param("namespaces/a/trainingJobs/b\n", "try 'b'", id="line end"),
    ],
)
def test_what_names_no_job_is_refused(name: str, says: str) -> None:
    with pytest.raises(InvalidJob, match=re.escape(says)) as caught:
        parse_names.job_name(name, "name")
    assert caught.value.field == "name"


@pytest.mark.parametrize(
    ("job_id", "better"),
    [
        pytest.param("My_Job", "my-job", id="case and underscore"),
        pytest.param("-mnist", "mnist", id="leading hyphen"),
        pytest.param("mnist-", "mnist", id="trailing hyphen"),
        pytest.param("mnist.v2", "mnist-v2", id="dot"),
        pytest.param("a  b", "a-b", id="spaces"),
        pytest.param("Möbel", "mobel", id="accent"),
        pytest.param("a" * 53, "a" * 52, id="53 characters"),
        pytest.param("a" * 51 + "-b", "a" * 51, id="cut at a hyphen"),
        pytest.param("a" * 100_000, "a" * 52, id="very long"),
        pytest.param("", None, id="empty"),
        pytest.param("___", None, id="nothing usable"),
        pytest.param("模型", None, id="no Latin letter"),
    ],
)
def test_a_bad_job_id_is_refused_with_a_better_one(job_id: str, better: str | None) -> None:
    error = refusal(request(training_job_id=job_id))
    assert error.field == "trainingJobId"
    assert "use 1 to 52 of a-z, 0-9 and '-'" in error.why
    assert len(error.why) < 400
    if better is None:
        assert "try" not in error.why
    else:
        assert error.why.endswith(f"try {better!r}")
        assert new(request(training_job_id=better)).key.name == better


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_every_suggested_name_is_valid(text: str) -> None:
    try:
        key = parse_names.job_name(f"namespaces/a/trainingJobs/{text}", "name")
    except InvalidJob as error:
        found = re.search(r"try '(.*)'$", error.why)
        if found:
            parse_names.job_name(f"namespaces/a/trainingJobs/{found[1]}", "name")
    else:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", key.name)


def test_a_parent_is_parsed() -> None:
    assert parse_names.parent("namespaces/vision", "parent") == "vision"
    assert parse_names.parent("namespaces/" + "n" * 63, "parent") == "n" * 63


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "for example namespaces/default", id="empty"),
        pytest.param("vision", "write namespaces/NAMESPACE", id="bare"),
        pytest.param("namespaces/", "write namespaces/NAMESPACE", id="no namespace"),
        pytest.param("projects/vision", "write namespaces/NAMESPACE", id="another root"),
        pytest.param("namespaces/-", "only a list", id="wildcard"),
        pytest.param("namespaces/a/b", "try 'a-b'", id="too deep"),
        pytest.param("namespaces/Vision", "try 'vision'", id="case"),
        pytest.param("namespaces/" + "n" * 64, "use 1 to 63", id="too long"),
        pytest.param("namespaces/..", "'..' is not a valid namespace", id="dots"),
    ],
)
def test_what_names_no_namespace_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidJob, match=re.escape(says)) as caught:
        parse_names.parent(text, "header.parent")
    assert caught.value.field == "header.parent"


@pytest.mark.parametrize("text", ["taas-storage", "a", "team.data-1", "c" * 253])
def test_a_claim_is_taken_as_it_is(text: str) -> None:
    assert parse_names.claim(text, "header.claimName") == text


def test_no_claim_is_the_default_one() -> None:
    assert parse_names.claim("", "header.claimName") == "taas-storage"


@pytest.mark.parametrize("text", ["..", "a/b", "Data", "-a", "a..b", "c" * 254, "a\n"])
def test_what_names_no_claim_is_refused(text: str) -> None:
    with pytest.raises(InvalidJob, match="PersistentVolumeClaim") as caught:
        parse_names.claim(text, "header.claimName")
    assert caught.value.field == "header.claimName"
