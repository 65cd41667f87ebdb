"""The controller's errors. How they cross the wire is in controller.wire_errors.

TaasError
├─ InvalidJob(field, why)      INVALID_ARGUMENT     the caller must change the request
├─ JobNotFound(what)           NOT_FOUND
├─ JobExists(what)             ALREADY_EXISTS
├─ WrongState(what, why)       FAILED_PRECONDITION  not in the state that this needs; why says so
├─ Unauthenticated(why)        UNAUTHENTICATED      nobody knows who calls
├─ PermissionDenied(why)       PERMISSION_DENIED    the caller may not do that
├─ LimitExceeded(limit, why)   RESOURCE_EXHAUSTED   says what the limit is
├─ ClusterRefused(why)         FAILED_PRECONDITION  quota, RBAC, admission: retry is useless
├─ ClusterUnavailable(why)     UNAVAILABLE          try again later
└─ Conflict                    never crosses the wire; the loop runs again
"""

from __future__ import annotations


class TaasError(Exception):
    """Root of the tree. The text is for people: what happened and what to do."""


class InvalidJob(TaasError):
    """The request names something that cannot be; `field` is its path, `why` ends in the remedy."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class JobNotFound(TaasError):
    """There is no such job, or no such part of one; `what` names it, `remedy` says what to do."""

    def __init__(self, what: str, remedy: str = "`taas list` shows what does") -> None:
        super().__init__(f"{what} does not exist; {remedy}")
        self.what = what


# The remedy of JobNotFound for who still reads a job when another one has its name.
REPLACED = "it was deleted, and what `taas list` shows under that name is another job"


class JobExists(TaasError):
    """Another job has this name."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} exists with another spec; choose another name or delete it first")
        self.what = what


class WrongState(TaasError):
    """The job is not in the state that the call needs: ended, not suspended, changed meanwhile."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} {why}")
        self.what = what


class Unauthenticated(TaasError):
    """The call does not say who makes it, or not so that it is believed."""


class PermissionDenied(TaasError):
    """The caller is known and may not do that."""


class LimitExceeded(TaasError):
    """A limit was reached; `limit` names it, `why` says how much it is."""

    def __init__(self, limit: str, why: str) -> None:
        super().__init__(f"{limit}: {why}")
        self.limit = limit


class ClusterRefused(TaasError):
    """The cluster said no for good."""


class ClusterUnavailable(TaasError):
    """The cluster, the store or the storage did not answer; `retry_after_s` is a fair wait."""

    def __init__(self, why: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Conflict(TaasError):
    """The job changed since it was read."""
