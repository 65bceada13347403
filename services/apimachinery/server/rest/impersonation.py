"""`kubectl --as`: a caller who may impersonate another one is treated as that one."""

from __future__ import annotations

from typing import Final

from multidict import CIMultiDictProxy

from services.apimachinery.errors import BadRequest
from services.apimachinery.server.auth.authorizer import Attributes, Authorizer, require
from services.apimachinery.server.auth.identity import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User

PREFIX: Final = "impersonate-"
USER: Final = "Impersonate-User"
GROUP: Final = "Impersonate-Group"


async def impersonated(authorizer: Authorizer, caller: User, headers: CIMultiDictProxy[str]) -> User:
    """Who the request is to be answered as: the caller, unless its Impersonate headers name another.

    Raises BadRequest for headers that name no user or more than users and groups, Forbidden unless the caller has the
    verb `impersonate` on `users` and `groups` of these names, as in Kubernetes.
    """
    asked = {name.lower() for name in headers if name.lower().startswith(PREFIX)}
    if not asked:
        return caller
    if unknown := asked - {USER.lower(), GROUP.lower()}:
        raise BadRequest(f"{', '.join(sorted(unknown))}: only {USER} and {GROUP} are supported")
    name, groups = headers.get(USER, ""), headers.getall(GROUP, [])
    if not name:
        raise BadRequest(f"{GROUP}: {USER} is required beside it")
    await require(authorizer, caller, Attributes("impersonate", resource="users", name=name))
    for group in groups:
        await require(authorizer, caller, Attributes("impersonate", resource="groups", name=group))
    everybody = UNAUTHENTICATED if name == ANONYMOUS.name else AUTHENTICATED
    return User(name, tuple(dict.fromkeys([*groups, everybody])))
