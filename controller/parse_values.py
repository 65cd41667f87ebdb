"""Judges the kinds of values that occur in many fields: numbers, labels, names of objects. Pure.

Every refusal is an InvalidJob.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from controller.errors import InvalidJob
from controller.parse_names import DNS_LABEL, shown

_MOST_LABELS = 64
# Kubernetes' own limits.
MOST_LABEL_CHARS = 63
MOST_DNS_CHARS = 253

DNS_SUBDOMAIN = re.compile(rf"{DNS_LABEL.pattern}(\.{DNS_LABEL.pattern})*")
LABEL_TEXT = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")


def check_range(value: int, field: str, least: int, most: int | None = None) -> None:
    """Refuse a number outside least..most. Raises InvalidJob."""
    if most is None and value < least:
        raise InvalidJob(field, f"{value} is too small; set {least} or more")
    if most is not None and not least <= value <= most:
        raise InvalidJob(field, f"{value} is out of range; set {least} to {most}")


def check_dns_name(text: str, field: str, what: str) -> None:
    """Refuse what cannot name an object of Kubernetes; "" is none. Raises InvalidJob."""
    if text and not (len(text) <= MOST_DNS_CHARS and DNS_SUBDOMAIN.fullmatch(text)):
        raise InvalidJob(
            field, f"{shown(text)} cannot name a {what}; use a-z, 0-9, '-' and '.', or leave it out"
        )


def check_labels(labels: Mapping[str, str], field: str) -> None:
    """Refuse labels that Kubernetes would refuse. Raises InvalidJob."""
    if len(labels) > _MOST_LABELS:
        raise InvalidJob(field, f"has {len(labels)} entries; set at most {_MOST_LABELS}")
    for key, value in sorted(labels.items()):
        check_label(key, value, field)


def check_label(key: str, value: str, field: str) -> None:
    """Refuse a label that Kubernetes would refuse. Raises InvalidJob."""
    prefix, slash, name = key.rpartition("/")
    prefix_ok = len(prefix) <= MOST_DNS_CHARS and DNS_SUBDOMAIN.fullmatch(prefix)
    if not _is_label_text(name) or (slash and not prefix_ok):
        raise InvalidJob(
            field,
            f"{shown(key)} cannot be a label's key; use 1 to {MOST_LABEL_CHARS} letters, digits, "
            "'-', '_' and '.', beginning and ending with a letter or digit, "
            "after a DNS name and '/' if you like",
        )
    if value and not _is_label_text(value):
        raise InvalidJob(
            field,
            f"{shown(value)} cannot be the value of label {key}; use at most {MOST_LABEL_CHARS} "
            "letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
        )


def _is_label_text(text: str) -> bool:
    return len(text) <= MOST_LABEL_CHARS and bool(LABEL_TEXT.fullmatch(text))
