"""Which words there are, what flags they take and what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.client import listing, reading, values
from services.dpservice.client.flags import Flag
from services.dpservice.client.kinds import (
    ALIAS_PREFIX,
    BALANCER,
    BALANCER_PREFIX,
    BALANCER_TARGET,
    INTERFACE,
    NAT,
    NEIGHBOR_NAT,
    ROUTE,
    VIRTUAL_IP,
    Kind,
    Object,
    get,
    ip,
)
from services.dpservice.client.rules import FILTER_FLAGS, FIREWALL_RULE, filter_of
from services.dpservice.client.session import Failure, Session, client_failure

CLIENT_NAME: Final = "ferrite"
ABORTED: Final = 10  # the gRPC status of whatever is asked before Initialize
VERB_ALIASES: Final = {"add": "create", "del": "delete"}
FILES: Final = Flag("filename", values.items, "file, folder or URL with objects, - for standard input", short="f")
KINDS: Final = (
    INTERFACE,
    ALIAS_PREFIX,
    ROUTE,
    VIRTUAL_IP,
    BALANCER,
    BALANCER_PREFIX,
    BALANCER_TARGET,
    NAT,
    NEIGHBOR_NAT,
    FIREWALL_RULE,
)


@dataclass(frozen=True)
class Outcome:
    """What came of a command, and in a word what was done to it."""

    shown: Object
    operation: str = ""


@dataclass(frozen=True)
class Command:
    """`verb noun`; the noun is empty for a verb that stands alone. `output` is its usual format."""

    verb: str
    noun: str
    help: str
    run: Callable[[Session, Mapping[str, Any]], Outcome]
    flags: tuple[Flag, ...] = ()
    aliases: tuple[str, ...] = ()
    output: str = "table"


def create(session: Session, kind: Kind, wanted: Object) -> Outcome:
    """Makes an object; what the server chose stands in it afterwards. Raises Failure."""
    answer = session.call(f"Create{kind.call}", kind.create(wanted))
    made = wanted | {"status": {"code": answer.status.code, "message": answer.status.message}}
    operation = "created"
    underlay = getattr(answer, "underlay_route", b"").decode()
    if underlay:
        made["spec"]["underlay_route"] = underlay
    if kind is INTERFACE:
        made["spec"]["virtual_function"] = {"name": answer.vf.name}
        made["spec"].setdefault("metering", {})
    if get(made, ("spec", "underlay_route")):
        operation = f"created, underlay route: {made['spec']['underlay_route']}"
    if kind is ROUTE:
        operation = f"created, next hop: {made['spec']['next_hop']['address']}"
    return Outcome(made, operation)


def delete(session: Session, kind: Kind, wanted: Object) -> Outcome:
    """Deletes what has the keys of `wanted`. Raises Failure."""
    answer = session.call(f"Delete{kind.call}", kind.delete(wanted))
    return Outcome(wanted | {"status": {"code": answer.status.code, "message": answer.status.message}}, "deleted")


def _flags(kind: Kind, *, keys_only: bool = False) -> tuple[Flag, ...]:
    own = tuple(
        Flag(each.flag, each.parse, each.help, each.required, each.default)
        for each in kind.fields
        if each.flag and (not keys_only or each.flag in kind.keys)
    )
    if kind is FIREWALL_RULE and not keys_only:
        own += tuple(Flag(each.flag, each.parse, each.help, False, each.default) for each in FILTER_FLAGS)
    return own


def _creating(kind: Kind) -> Command:
    def run(session: Session, given: Mapping[str, Any]) -> Outcome:
        wanted = kind.from_flags(given)
        if kind is FIREWALL_RULE:
            wanted["spec"]["protocol_filter"] = filter_of(given)
        return create(session, kind, wanted)

    return Command("create", kind.noun, f"makes {kind.titled}", run, _flags(kind), kind.aliases, "name")


def _deleting(kind: Kind) -> Command:
    def run(session: Session, given: Mapping[str, Any]) -> Outcome:
        return delete(session, kind, kind.from_flags(given, keys_only=True))

    flags = _flags(kind, keys_only=True)
    return Command("delete", kind.noun, f"deletes {kind.titled}", run, flags, kind.aliases, "name")


def _initialized(session: Session) -> Outcome:
    answer = session.call("CheckInitialized", pb.CheckInitializedRequest())
    return Outcome(reading.made("Initialized", {}, {"uuid": answer.uuid}, answer.status))


def _init(session: Session, _: Mapping[str, Any]) -> Outcome:
    try:
        uuid = _initialized(session).shown["spec"]["uuid"]
    except Failure as failure:
        if (failure.source, failure.code) != ("grpc", ABORTED):
            raise
    else:
        # To initialize again takes routes and neighbors away, which nobody means by it.
        raise client_failure(f"is initialized already, its uuid is {uuid}")
    answer = session.call("Initialize", pb.InitializeRequest())
    return Outcome(reading.made("Initialized", {}, {"uuid": answer.uuid}, answer.status))


def _version(session: Session, _: Mapping[str, Any]) -> Outcome:
    own = version("ferrite")
    request = pb.GetVersionRequest(client_protocol=own, client_name=CLIENT_NAME, client_version=own)
    answer = session.call("GetVersion", request)
    metadata = {"client_protocol": own, "client_name": CLIENT_NAME, "client_version": own}
    spec = {"service_protocol": answer.service_protocol, "service_version": answer.service_version}
    return Outcome(reading.made("Version", metadata, spec, answer.status))


def _vni(session: Session, given: Mapping[str, Any]) -> Outcome:
    metadata = {"vni": given["vni"], "vni_type": given["vni-type"]}
    answer = session.call("CheckVniInUse", pb.CheckVniInUseRequest(vni=metadata["vni"], type=metadata["vni_type"]))
    return Outcome(reading.made("Vni", metadata, {"in_use": answer.in_use}, answer.status))


def _nats(session: Session, given: Mapping[str, Any]) -> Outcome:
    return Outcome(listing.nats(session, given))


def _slices(session: Session, given: Mapping[str, Any]) -> Outcome:
    return Outcome(listing.slices(session, given))


def _reset_vni(session: Session, given: Mapping[str, Any]) -> Outcome:
    metadata = {"vni": given["vni"], "vni_type": given["vni-type"]}
    answer = session.call("ResetVni", pb.ResetVniRequest(vni=metadata["vni"], type=metadata["vni_type"]))
    return Outcome(reading.made("Vni", metadata, {"in_use": False}, answer.status), "reset")


def _capture_start(session: Session, given: Mapping[str, Any]) -> Outcome:
    chosen = [{"interface_type": "pf", "interface_info": index} for index in given["pf"] or ()]
    chosen += [{"interface_type": "vf", "interface_info": name} for name in given["vf"] or ()]
    for each in chosen:
        if each["interface_type"] == "pf" and each["interface_info"] not in ("0", "1"):
            raise client_failure(f"--pf: {each['interface_info']!r} is not 0 or 1")
    config = pb.CaptureConfig(
        sink_node_ip=ip(given["sink-node-ip"]),
        udp_src_port=given["udp-src-port"],
        udp_dst_port=given["udp-dst-port"],
        interfaces=[
            pb.CapturedInterface(interface_type=pb.SINGLE_PF, pf_index=int(each["interface_info"]))
            if each["interface_type"] == "pf"
            else pb.CapturedInterface(interface_type=pb.SINGLE_VF, vf_name=each["interface_info"].encode())
            for each in chosen
        ],
    )
    answer = session.call("CaptureStart", pb.CaptureStartRequest(capture_config=config))
    metadata = {"capture_config": reading.capture_config(config)}
    return Outcome(reading.made("CaptureStart", metadata, {"interfaces": chosen}, answer.status), "started")


def _capture_stop(session: Session, _: Mapping[str, Any]) -> Outcome:
    answer = session.call("CaptureStop", pb.CaptureStopRequest())
    spec = {"iface_cnt": answer.stopped_interface_cnt}
    return Outcome(reading.made("CaptureStop", {}, spec, answer.status), "stopped")


def _capture_status(session: Session, _: Mapping[str, Any]) -> Outcome:
    answer = session.call("CaptureStatus", pb.CaptureStatusRequest())
    spec: Object = {"operation_status": answer.is_active, "capture_config": {}}
    if answer.is_active:
        spec["capture_config"] = reading.capture_config(answer.capture_config)
        spec["interfaces"] = [reading.captured(each) for each in answer.capture_config.interfaces]
    return Outcome(reading.made("CaptureStatus", {}, spec, answer.status))


_VNI = Flag("vni", values.number, "a VNI", True)
_SORT = Flag("sort-by", values.text, "column to sort by", default="")
_OWNER = Flag("interface-id", values.text, "id of the interface; without it, all of them")
_CAPTURE_FLAGS: Final = (
    Flag("sink-node-ip", values.address, "IPv6 address that captured frames are sent to", True),
    Flag("udp-src-port", values.number, "UDP source port of what is sent", True),
    Flag("udp-dst-port", values.number, "UDP destination port of what is sent", True),
    Flag("pf", values.items, "indexes of uplinks, 0,1"),
    Flag("vf", values.items, "ids of interfaces, a,b"),
)


@dataclass(frozen=True)
class _Looking:
    """A kind as `get` and `list` look at it."""

    kind: Kind
    plural: str
    every: Callable[[Session, Mapping[str, Any]], Object]
    flags: tuple[Flag, ...] = ()
    one: Callable[[Session, Mapping[str, Any]], Object] | None = None
    key: Flag | None = None
    """The flag that `get` has besides, and that picks one object."""

    def commands(self) -> list[Command]:
        """`get` shows one if it is named, otherwise what `list` shows."""
        names = (self.kind.noun, *self.kind.aliases)
        list_flags, get_flags = (*self.flags, _SORT), (*self.flags, _SORT, *((self.key,) if self.key else ()))

        def run_list(session: Session, given: Mapping[str, Any]) -> Outcome:
            return Outcome(self.every(session, given))

        def run_get(session: Session, given: Mapping[str, Any]) -> Outcome:
            picks = self.key or next((flag for flag in self.flags if flag.name == "interface-id"), None)
            if self.one is None or picks is None or given.get(picks.name) is None:
                return run_list(session, given)
            return Outcome(self.one(session, given))

        return [
            Command("get", self.kind.noun, f"shows {self.kind.titled}, or all", run_get, get_flags, names),
            Command("list", self.plural, f"lists every {self.kind.name}", run_list, list_flags, names),
        ]


LOOKING: Final = (
    _Looking(INTERFACE, "interfaces", listing.interfaces, (), listing.interface, Flag("id", values.text, "its id")),
    _Looking(ALIAS_PREFIX, "prefixes", listing.prefixes, (_OWNER,)),
    _Looking(ROUTE, "routes", listing.routes, (Flag("vni", values.number, "a VNI; 0: all", default=0),)),
    _Looking(VIRTUAL_IP, "virtualips", listing.virtual_ips, (_OWNER,), listing.virtual_ip),
    _Looking(BALANCER, "loadbalancers", listing.balancers, (), listing.balancer, Flag("id", values.text, "its id")),
    _Looking(BALANCER_PREFIX, "lbprefixes", listing.balancer_prefixes, (_OWNER,)),
    _Looking(
        BALANCER_TARGET,
        "lbtargets",
        listing.targets,
        (Flag("lb-id", values.text, "id of the load balancer; without it, all of them", default=""),),
    ),
    _Looking(
        FIREWALL_RULE,
        "firewallrules",
        listing.rules,
        (_OWNER,),
        listing.rule,
        Flag("rule-id", values.text, "id of the rule"),
    ),
)

COMMANDS: Final[tuple[Command, ...]] = (
    Command("init", "", "initializes the data plane", _init),
    *(command for kind in KINDS for command in (_creating(kind), _deleting(kind))),
    *(command for looking in LOOKING for command in looking.commands()),
    Command("get", "nat", "shows a Nat, or all", _nats, (_OWNER, _SORT), NAT.aliases),
    Command(
        "list",
        "nats",
        "lists slices of shared addresses, those of neighbors too",
        _slices,
        (
            Flag("nat-ip", values.address, "a public address; 0.0.0.0: all", default="0.0.0.0"),
            Flag("nat-type", values.nat_type, "any, local or neighbor", default="any"),
            _SORT,
        ),
        (NAT.noun, *NAT.aliases),
    ),
    Command("get", "init", "shows the uuid of the data plane's state", lambda session, _: _initialized(session)),
    Command("get", "version", "shows versions of client and server", _version),
    Command(
        "get", "vni", "tells if a VNI is in use", _vni, (_VNI, Flag("vni-type", values.vni_type, "ipv4 or ipv6", True))
    ),
    Command(
        "reset",
        "vni",
        "takes a VNI's routes away, except those of its interfaces",
        _reset_vni,
        (_VNI, Flag("vni-type", values.vni_type, "both", default=2)),
        output="name",
    ),
    Command("capture", "start", "mirrors packets to a sink", _capture_start, _CAPTURE_FLAGS),
    Command("capture", "stop", "ends the capture", _capture_stop),
    Command("capture", "status", "shows what is captured", _capture_status),
)


def find(words: list[str]) -> list[Command]:
    """The command that words name; several, if they name only a verb; none, if nothing is called so."""
    verb, noun = (word.lower() for word in [*words, "", ""][:2])
    verb = VERB_ALIASES.get(verb, verb)
    same = [command for command in COMMANDS if command.verb == verb]
    if not noun or len(words) > 2:
        return same if len(words) < 3 else []
    return [command for command in same if noun == command.noun or noun in command.aliases]
