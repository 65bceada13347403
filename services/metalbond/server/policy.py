"""Who may announce and hear of which VNIs, and who may look at everything. Pure; the file is YAML:

    rules:
      - identities: ["hypervisor-*"]     # patterns; the first rule that fits an identity is its only one
        announce: ["100-199", "4000"]    # VNIs and ranges; "*" is all
        subscribe: ["*"]
      - identities: ["local"]
        read: true                       # ListPeers and ListRoutes

An identity is the common name of a certificate; `local` is whoever may open the server's unix socket, `anonymous` all
that come without TLS. What no rule grants is not granted. Without a policy everything is.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Final

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from services.metalbond.routes import MAX_VNI, Vni, check_vni

ANONYMOUS: Final = "anonymous"
LOCAL: Final = "local"


def _span(text: object) -> tuple[int, int]:
    if text == "*":
        return 0, MAX_VNI
    first, dash, last = str(text).partition("-")
    try:
        span = check_vni(int(first)), check_vni(int(last if dash else first))
    except ValueError:
        raise ValueError(f"{text!r} is neither a VNI, nor a range such as 100-199, nor *") from None
    if span[0] > span[1]:
        raise ValueError(f"{text!r} ends before it begins")
    return span


Span = Annotated[tuple[int, int], BeforeValidator(_span)]


class Rule(BaseModel):
    """What identities may do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    identities: list[str] = Field(min_length=1)
    announce: list[Span] = []
    subscribe: list[Span] = []
    read: bool = False

    def may_announce(self, vni: Vni) -> bool:
        """Whether routes of the VNI are accepted."""
        return any(first <= vni <= last for first, last in self.announce)

    def may_subscribe(self, vni: Vni) -> bool:
        """Whether the VNI's routes are told."""
        return any(first <= vni <= last for first, last in self.subscribe)


_ALL: Final = (0, MAX_VNI)
EVERYTHING: Final = Rule.model_construct(identities=["*"], announce=[_ALL], subscribe=[_ALL], read=True)
NOTHING: Final = Rule.model_construct(identities=["*"], announce=[], subscribe=[], read=False)


class Policy(BaseModel):
    """Rules in the order in which they are tried."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: list[Rule]

    def rule_for(self, identity: str) -> Rule:
        """The rule that holds for an identity."""
        for rule in self.rules:
            if any(fnmatchcase(identity, pattern) for pattern in rule.identities):
                return rule
        return NOTHING


OPEN: Final = Policy.model_construct(rules=[EVERYTHING])


def parse(text: str) -> Policy:
    """A policy file's contents. Raises ValueError that names the place and the rule."""
    try:
        return Policy.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        place = ".".join(map(str, found["loc"])) or "the file"
        raise ValueError(f"{place}: {found['msg']}") from error
