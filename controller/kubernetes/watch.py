"""A kind of object as the API server has it: listed once, then kept up to date by a watch.

No polling: a watch that ends goes on where it was, and only when the server no longer remembers
that place is everything listed again. Own writes are put in at once, so that they are read back.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

from controller.backoff import doubled
from controller.errors import TaasError
from controller.kubernetes.background import Background
from controller.kubernetes.client import Api, Document
from controller.kubernetes.replies import Expired

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
Name = tuple[str, str]  # namespace and name

_PAGE = "500"
# The server ends a watch then; spread, so that the watches of a restart do not stay together.
_SHORTEST_WATCH_S, _LONGEST_WATCH_S = 300, 600
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.2, 5.0
# A watch that ends sooner without an event is a failure, or it would be begun in a tight loop.
_FAIR_WATCH_S = 1.0
# Deleted objects that are remembered: an answer under way must not bring one back. It has to
# reach back only as far as the slowest call.
_MOST_GONE = 20_000


@dataclass(frozen=True, slots=True)
class Item(Generic[_T]):
    """An object: what names it, its version, and what was read out of it."""

    namespace: str
    name: str
    uid: str
    version: int
    value: _T


class Collection(Generic[_T]):
    """All objects of a path that the selectors choose, by namespace and name.

    `read` makes the value out of a document and must not fail; `changed` is told of every
    change as (before, after), None standing for an object that is not there.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        *,
        read: Callable[[Document], _T],
        changed: Callable[[Item[_T] | None, Item[_T] | None], None],
        selectors: Mapping[str, str] | None = None,
    ) -> None:
        self._api = api
        self._path = path
        self._read = read
        self._changed = changed
        self._selectors = dict(selectors or {})
        self._items: dict[Name, Item[_T]] = {}
        self._gone: OrderedDict[str, int] = OrderedDict()  # version of the deletion by uid
        self._version = ""  # where the watch goes on; "" means list first
        self._synced = asyncio.Event()

    # --- What is there

    def get(self, namespace: str, name: str) -> Item[_T] | None:
        """Return an object, None if there is none."""
        return self._items.get((namespace, name))

    def items(self) -> Iterable[Item[_T]]:
        """Return all objects, in no order."""
        return self._items.values()

    async def synced(self) -> None:
        """Wait until everything was listed once."""
        await self._synced.wait()

    # --- What is known from own calls

    def put(self, document: Document) -> Item[_T]:
        """Take over an object as a call returned it, unless something newer is known."""
        metadata = document["metadata"]
        name = (metadata.get("namespace", ""), metadata["name"])
        uid, version = metadata["uid"], int(metadata["resourceVersion"])
        before = self._items.get(name)
        if before is not None and (before.uid, before.version) == (uid, version):
            return before
        metadata.pop("managedFields", None)
        after = Item(*name, uid, version, self._read(document))
        newer = before is None or before.version < version
        if newer and self._gone.get(uid, -1) < version:
            self._items[name] = after
            self._changed(before, after)
        return after

    def drop(self, namespace: str, name: str, uid: str, *, version: int | None = None) -> None:
        """Take over that an object is gone for good; by default whatever its version was."""
        before = self._items.get((namespace, name))
        last = version if version is not None else 2**63
        self._gone[uid] = max(last, self._gone.get(uid, -1))
        self._gone.move_to_end(uid)
        if len(self._gone) > _MOST_GONE:
            self._gone.popitem(last=False)
        if before is not None and before.uid == uid and before.version <= last:
            del self._items[namespace, name]
            self._changed(before, None)

    # --- What the server tells

    async def open(self, background: Background) -> None:
        """Open the owner's tasks, keep up to date as one of them, and return when everything was
        listed once, for however long the server does not answer."""
        await background.open()
        try:
            background.start(self.run())
            await self.synced()
        except BaseException:
            await background.aclose()
            raise

    async def run(self) -> None:
        """Keep up to date until cancelled, whatever happens to the server."""
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            version = self._version
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                why = "ended"
            except Expired:
                _log.info("%s: listing again, the server forgot version %s", self._path, version)
                self._version = ""
                why = "expired"
            except TaasError as error:
                why = str(error)
            lasted = asyncio.get_running_loop().time() - began
            if self._version != version or (why == "ended" and lasted > _FAIR_WATCH_S):
                failures = 0
                if why in ("ended", "expired"):
                    continue
            failures += 1
            longest_s = doubled(_FIRST_BACKOFF_S, failures, longest_s=_LONGEST_BACKOFF_S)
            wait_s = longest_s * random.uniform(0.5, 1.0)  # not all watches at once
            _log.warning("%s: watch broken, again in %.1f s: %s", self._path, wait_s, why)
            await asyncio.sleep(wait_s)

    async def _list(self) -> None:
        """Take over everything as it is now."""
        found: dict[Name, str] = {}
        query = {**self._selectors, "limit": _PAGE}
        while True:
            page = await self._api.call("GET", self._path, query=query)
            for document in page.get("items", ()):
                item = self.put(document)
                found[item.namespace, item.name] = item.uid
            metadata = page["metadata"]
            if not metadata.get("continue"):
                break
            query["continue"] = metadata["continue"]
        version = int(metadata["resourceVersion"])
        for item in [*self._items.values()]:
            unseen = found.get((item.namespace, item.name)) != item.uid
            if unseen and item.version <= version:
                self.drop(item.namespace, item.name, item.uid, version=version)
        self._version = str(version)
        self._synced.set()

    async def _watch(self) -> None:
        query = {
            **self._selectors,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
        }
        timeout_s = random.randint(_SHORTEST_WATCH_S, _LONGEST_WATCH_S)
        async with aclosing(self._api.watch(self._path, query, timeout_s=timeout_s)) as events:
            async for event in events:
                document = event["object"]
                metadata = document["metadata"]
                if event["type"] == "DELETED":
                    self.drop(
                        metadata.get("namespace", ""),
                        metadata["name"],
                        metadata["uid"],
                        version=int(metadata["resourceVersion"]),
                    )
                elif event["type"] != "BOOKMARK":
                    self.put(document)
                self._version = metadata["resourceVersion"]
