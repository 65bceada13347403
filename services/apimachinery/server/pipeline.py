"""The one way to change an object, behind both doors.

    authorize -> (patch the stored object) -> defaults -> hooks -> admission -> allocate -> validate -> metadata
              -> compare-and-swap transaction with index keys -> answer

Whoever calls has decoded the request (`Call`, a canonical tree). Status is isolated both ways: the main endpoint keeps
the stored status, a subresource changes its own part only. A patch without resourceVersion is tried again when another
write came first. Methods answer with the stored `Item` (of a dry run: what would have been stored) and raise ApiError.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.apimachinery.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    MethodNotAllowed,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from services.apimachinery.schema import causes
from services.apimachinery.schema.defaults import apply_defaults
from services.apimachinery.schema.schema import Tree
from services.apimachinery.schema.times import format_time
from services.apimachinery.schema.validate import validate
from services.apimachinery.server import deletion, metadata
from services.apimachinery.server.admission import Admission
from services.apimachinery.server.allocation import ATTEMPTS, Index
from services.apimachinery.server.auth.authorizer import Authorizer, require
from services.apimachinery.server.auth.identity import SYSTEM, User
from services.apimachinery.server.call import Call, DeleteOptions
from services.apimachinery.server.changes import Patch, applied, apply_patch, record_manager
from services.apimachinery.server.reader import ListQuery, list_objects, not_found
from services.apimachinery.server.storage import copied
from services.apimachinery.store.etcd import GuardChanged, Mismatch, Taken
from services.apimachinery.store.watch_cache import Item
from services.apimachinery.tracing import stamp
from services.common.telemetry_context import running

STATUS_SUBRESOURCES = ("status", "approval")  # those that write below `status`
RACES = 8  # lost compare-and-swap races before a patch gives up


@dataclass(frozen=True)
class Deleted:
    """A deletion's answer: the object's last state, and whether it is gone or waits for finalizers."""

    item: Item
    gone: bool


class Pipeline:
    """Writes objects; `admission` plugins run in order."""

    def __init__(self, authorizer: Authorizer, admission: Sequence[Admission] = ()) -> None:
        self.authorizer = authorizer
        self.admission = list(admission)
        self.starting = ""
        """Why the server answers nobody but itself yet; empty once it does."""

    async def authorize(self, call: Call) -> None:
        """Raises Forbidden unless the caller may."""
        self.require_started(call.user)
        await require(self.authorizer, call.user, call.attributes)

    def require_started(self, user: User) -> None:
        """Raises Unavailable while rights and namespaces may be missing: a client shall wait, not believe a refusal."""
        if self.starting and user != SYSTEM:
            raise Unavailable(self.starting)

    async def answer(self, call: Call, tree: Tree) -> Tree:
        """The answer of an ephemeral kind (a review)."""
        await self.authorize(call)
        handler = call.resource.definition.answer
        if handler is None:
            raise MethodNotAllowed(f"{call.kind.resource} can't be created")
        _complete(call, tree)
        # A question needs no name.
        found = [cause for cause in validate(call.kind, tree) if not cause.field.startswith("metadata.")]
        if found:
            raise causes.invalid(call.kind, "", found)
        return await handler(call.user, tree)

    async def create(self, call: Call, tree: Tree) -> Item:
        """Stores a new object."""
        await self.authorize(call)
        metadata.place(call, tree)
        return await self._create(call, tree)

    async def update(self, call: Call, tree: Tree) -> Item:
        """Replaces an object, or the part that the subresource is about."""
        await self.authorize(call)
        metadata.place(call, tree)
        version = tree["metadata"].get("resourceVersion", "")
        if not version and not call.resource.builtin:
            cause = causes.invalid_value("metadata.resourceVersion", "", "must be specified for an update")
            raise causes.invalid(call.kind, call.name, [cause])
        return await self._change(call, lambda _: copied(tree), conditional=bool(version))

    async def patch(self, call: Call, patch: Patch) -> Item:
        """Changes an object as the patch says; an apply creates a missing one."""
        await self.authorize(call)
        if patch.is_apply:
            return await self._apply(call, patch)
        return await self._change(call, lambda old: apply_patch(call, patch, old))

    async def change(self, call: Call, change: Callable[[Tree], Tree]) -> Item:
        """Replaces an object by what `change` makes of a copy of the newest version; called again after a lost race."""
        await self.authorize(call)
        return await self._change(call, change)

    async def delete(self, call: Call, options: DeleteOptions) -> Deleted:
        """Deletes an object, or marks it as deleting while finalizers hold it."""
        await self.authorize(call)
        deletion.check_options(call, options)
        return await self._delete(call, options)

    async def delete_collection(self, call: Call, options: DeleteOptions, query: ListQuery) -> list[Item]:
        """Deletes what the selectors match; what goes meanwhile is fine."""
        await self.authorize(call)
        deletion.check_options(call, options)
        listing = await list_objects(call, query)
        done = []
        for item in listing.items:
            namespace, _, name = item.name.rpartition("/")
            one = replace(call, verb="delete", namespace=namespace, name=name, warnings=call.warnings, guards={})
            try:
                done.append((await self._delete(one, options)).item)
            except NotFound:
                continue
        return done

    async def _apply(self, call: Call, patch: Patch) -> Item:
        try:
            return await self._change(call, lambda old: applied(call, patch, old, _now()), manager_known=True)
        except NotFound:
            if call.subresource:
                raise
        # Creating is another right than patching.
        create = replace(call, verb="create", warnings=call.warnings, guards={})
        await self.authorize(create)
        tree = applied(create, patch, None, _now())
        metadata.place(create, tree)
        try:
            return await self._create(create, tree, manager_known=True)
        except AlreadyExists:
            return await self._change(call, lambda old: applied(call, patch, old, _now()), manager_known=True)

    async def _create(self, call: Call, tree: Tree, *, manager_known: bool = False) -> Item:
        resource, storage = call.resource, call.resource.stored
        if call.kind.has_status:
            tree.pop("status", None)
        index = Index(storage.etcd)
        for _ in range(ATTEMPTS):
            new = copied(tree)
            metadata.begin(call, new, _now(), str(uuid.uuid4()))
            one = replace(call, name=new["metadata"]["name"], warnings=call.warnings)
            asked = await self._prepare(one, new, None, index)
            call.guards = one.guards
            if not manager_known:
                record_manager(one, new, None, _now())
            _trace(one, new)
            stored = resource.to_stored(new)
            if call.dry_run:
                if await storage.read(one.namespace, one.name) is not None:
                    raise _exists(one)
                return storage.unwritten(stored, 0)
            claims = list(resource.allocator.claims(new)) if resource.allocator else []
            try:
                return await storage.write(stored, 0, claims=claims, guards=one.guards)
            except Mismatch:
                if tree["metadata"].get("name"):
                    raise _exists(one) from None
            except GuardChanged:
                continue
            except Taken as taken:
                _collided(one, taken, asked, index)
        raise TooManyRequests(
            f"{call.kind.resource}: no free name or value was found in {ATTEMPTS} attempts; try again"
        )

    async def _change(
        self, call: Call, change: Callable[[Tree], Tree], *, conditional: bool = False, manager_known: bool = False
    ) -> Item:
        resource, storage = call.resource, call.resource.stored
        index = Index(storage.etcd)
        for _ in range(RACES):
            item = await storage.read(call.namespace, call.name)
            if item is None:
                raise not_found(call)
            old = resource.tree(item)
            new = change(copied(old))
            _check_version(call, new, old)
            metadata.check_identity(call, new, old)
            new = self._isolated(call, new, old)
            asked = await self._prepare(call, new, old, index)
            if not manager_known:
                record_manager(call, new, old, _now())
            metadata.count_generation(new, old)
            _trace(call, new, old)
            if metadata.is_same(new, old):
                return item
            try:
                return await self._store(call, item, new, old)
            except Mismatch:
                if conditional:
                    raise metadata.changed(call) from None
            except GuardChanged:
                continue
            except Taken as taken:
                _collided(call, taken, asked, index)
        raise Conflict(f'{call.kind.resource} "{call.name}": other writes came first {RACES} times; try again')

    def _isolated(self, call: Call, new: Tree, old: Tree) -> Tree:
        metadata.carry_over(new, old)
        if call.subresource:
            return call.resource.subresources[call.subresource](old, new)
        if call.kind.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = copied(old["status"])
        return new

    async def _prepare(self, call: Call, new: Tree, old: Tree | None, index: Index) -> set[str]:
        """Everything between a decoded object and a valid one; returns the index keys that the writer asked for."""
        _complete(call, new)
        for plugin in self.admission:
            await plugin.admit(call, new, old)
        allocator, asked = call.resource.allocator, set[str]()
        if allocator is not None:
            asked = set(allocator.claims(new))
            await allocator.allocate(new, old, index)
        _refuse(call, new, old)
        return asked

    async def _store(self, call: Call, item: Item, new: Tree, old: Tree) -> Item:
        resource, storage = call.resource, call.resource.stored
        stored = resource.to_stored(new)
        had, has = self._claims(call, old), self._claims(call, new)
        gone = metadata.is_deleting(new) and not metadata.is_held(new)
        if call.dry_run:
            return storage.unwritten(stored, item.revision)
        if gone:
            revision = await storage.remove(stored, item.revision, releases=sorted(had | has))
            return storage.unwritten(stored, revision)
        return await storage.write(
            stored, item.revision, claims=sorted(has - had), releases=sorted(had - has), guards=call.guards
        )

    async def _delete(self, call: Call, options: DeleteOptions) -> Deleted:
        resource, storage = call.resource, call.resource.stored
        for _ in range(RACES):
            item = await storage.read(call.namespace, call.name)
            if item is None:
                raise not_found(call)
            old = resource.tree(item)
            deletion.check_preconditions(call, old, options)
            for plugin in self.admission:
                await plugin.admit(call, None, old)
            new = copied(old)
            deletion.mark(new, options, _now())
            _trace(call, new, old)
            gone = not metadata.is_held(new)
            if call.dry_run or (not gone and metadata.is_deleting(old) and metadata.is_same(new, old)):
                return Deleted(item, gone)
            stored = resource.to_stored(new)
            try:
                if not gone:
                    return Deleted(await storage.write(stored, item.revision), gone=False)
                revision = await storage.remove(stored, item.revision, releases=sorted(self._claims(call, old)))
                return Deleted(item.at(revision), gone=True)
            except Mismatch:
                continue
        raise Conflict(f'{call.kind.resource} "{call.name}": other writes came first {RACES} times; try again')

    def _claims(self, call: Call, tree: Tree) -> set[str]:
        return set(call.resource.allocator.claims(tree)) if call.resource.allocator else set()


def _complete(call: Call, tree: Tree) -> None:
    apply_defaults(call.kind, tree)
    if call.resource.hooks is not None:
        call.resource.hooks.default(tree)


def _refuse(call: Call, new: Tree, old: Tree | None) -> None:
    found = validate(call.kind, new, old, status=call.subresource in STATUS_SUBRESOURCES)
    if not found and call.resource.hooks is not None:
        found = call.resource.hooks.validate(new, old)
    if found:
        raise causes.invalid(call.kind, new["metadata"].get("name", ""), found)


def _trace(call: Call, new: Tree, old: Tree | None = None) -> None:
    """Leaves the trace of this write with an object that now wants something else."""
    if not call.kind.has_status or call.dry_run:
        return
    if old is None or new["metadata"].get("generation") != old["metadata"].get("generation"):
        named = new["metadata"]
        if span := running():
            span.set(object=f"{named.get('namespace', '')}/{named['name']}", generation=named["generation"])
            stamp(named)


def _now() -> str:
    return format_time(int(time.time()))


def _check_version(call: Call, new: Tree, old: Tree) -> None:
    given = new["metadata"].get("resourceVersion")
    if given and given != old["metadata"]["resourceVersion"]:
        raise metadata.changed(call)


def _collided(call: Call, taken: Taken, asked: set[str], index: Index) -> None:
    """A proposal is made again; what the writer asked for himself is refused."""
    if taken.key in asked or taken.key in index.collided:
        raise Conflict(
            f'{call.kind.resource} "{call.name}": {taken.key} is already owned by {taken.owner}',
            kind=call.kind.plural,
            group=call.kind.group,
            name=call.name,
        )
    index.collided.add(taken.key)


def _exists(call: Call) -> ApiError:
    return AlreadyExists(
        f'{call.kind.resource} "{call.name}" already exists',
        kind=call.kind.plural,
        group=call.kind.group,
        name=call.name,
    )
