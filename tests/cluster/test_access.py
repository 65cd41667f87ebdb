"""Who may call the installed service: what RBAC says of the token that a call shows."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

import taas
from taas.access import Access
from taas.errors import PermissionDenied, Unauthenticated
from tests.cluster.team import Team


def caller(team: Team, token: str) -> taas.Client:
    """A client that shows this token, and nothing of what the other tests show."""
    access = replace(Access.of(os.environ), token_file=None, token=token)
    return taas.Client(team.service.target, team.namespace, access=access, retry_for_s=60)


def token_of(team: Team, user: str, *options: str) -> str:
    """A token of a new ServiceAccount that has the role `edit` in the namespace."""
    team.kubectl("create", "serviceaccount", user)
    member = f"--serviceaccount={team.namespace}:{user}"
    team.kubectl("create", "rolebinding", user, "--clusterrole=edit", member)
    return team.kubectl("create", "token", user, *options)


def test_who_shows_no_token_is_refused(team: Team) -> None:
    with caller(team, "") as nobody, pytest.raises(Unauthenticated, match="carries no token"):
        list(nobody.list())


def test_a_token_for_another_audience_is_refused(team: Team) -> None:
    token = token_of(team, "ada")
    with caller(team, token) as ada, pytest.raises(Unauthenticated, match="not accepted"):
        list(ada.list())


def test_rights_in_one_namespace_are_none_in_another(team: Team, other_team: Team) -> None:
    token = token_of(team, "ada", "--audience=taas.dev")
    other_team.apply(other_team.manifest("hers", suspend=True))
    with caller(team, token) as ada:
        assert not list(ada.list())
        for call in (ada.get, ada.cancel, ada.delete, ada.files, ada.checkpoints):
            with pytest.raises(PermissionDenied, match=f"in namespace '{other_team.namespace}'"):
                call(f"{other_team.namespace}/hers")
        with pytest.raises(PermissionDenied):
            list(ada.list(namespace="-"))
    assert not other_team.client.get("hers").spec.cancel
