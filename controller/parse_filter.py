"""The filter of a list request. Pure; every refusal is an InvalidJob that shows the term."""

from __future__ import annotations

import re

from controller.errors import InvalidJob
from controller.model import Phase
from controller.parse_names import ALL_NAMESPACES, parent, shown
from controller.parse_values import check_label
from controller.ports import ListFilter

_FIELD = "filter"
_NAME_PREFIX = re.compile(r"([a-z0-9][-a-z0-9]*)?")


def list_filter(parent_text: str, text: str) -> ListFilter:
    """Parse the parent and the filter of a list request. Raises InvalidJob."""
    namespace = None if parent_text == ALL_NAMESPACES else parent(parent_text, "parent")
    values: dict[str, str] = {}
    for term in re.split(r"\s+AND\s+", text.strip()) if text.strip() else ():
        key, value = _term(term)
        if key in values:
            raise InvalidJob(_FIELD, f"{shown(term)} names {key} again; name it once")
        values[key] = value
    return ListFilter(
        namespace=namespace,
        phases=frozenset(v for k, v in values.items() if k == "phase"),
        labels=tuple(sorted((k.removeprefix("labels."), v) for k, v in values.items() if "." in k)),
        name_prefix=values.get("name", ""),
    )


def _term(term: str) -> tuple[str, str]:
    """Return the key of a term and what it must be equal to."""
    key, equals, value = (part.strip() for part in term.partition("="))
    if equals and key == "phase":
        return key, _phase(term, value)
    if equals and key == "name":
        return key, _prefix(term, value)
    if equals and key.startswith("labels."):
        check_label(key.removeprefix("labels."), value, _FIELD)
        return key, value
    raise InvalidJob(
        _FIELD,
        f"{shown(term)} is not understood; join terms of the kinds phase=RUNNING, "
        "labels.KEY=VALUE and name=PREFIX* by AND",
    )


def _phase(term: str, value: str) -> str:
    phase = value.upper().removeprefix("PHASE_")
    if phase not in Phase.__members__:
        known = ", ".join(Phase.__members__)
        raise InvalidJob(_FIELD, f"{shown(term)} names no phase; use one of {known}")
    return phase


def _prefix(term: str, value: str) -> str:
    prefix = value.removesuffix("*")
    if prefix == value or not _NAME_PREFIX.fullmatch(prefix):
        raise InvalidJob(
            _FIELD,
            f"{shown(term)} is no beginning of a name; use a-z, 0-9 and '-', then '*', "
            "for example name=mnist*",
        )
    return prefix
