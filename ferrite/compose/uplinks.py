"""Joins the network namespaces of containers by veth pairs, with no right but CAP_NET_ADMIN in each of them.

Making a link into another namespace needs an open file of that namespace, and a container can't look into another's.
So each member hands over its own: `join`, in the member's namespace, sends the file through a unix socket in a shared
volume to `fabric`, in the fabric's, which makes the links; then each configures its own ends. The connection stays
open; when the fabric's side goes, the member asks again, and existing links are left as they are.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute

from ferrite.compose.setup import compose_plan
from ferrite.dev import network
from ferrite.dev.plan import UPLINKS, ClusterPlan, Member

SOCKET: Final = Path("/run/ferrite/fabric/fabric.sock")
JOINED: Final = Path("/tmp/joined")
OWN_NAMESPACE: Final = "/proc/self/ns/net"
ANSWER_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 1.0
MAX_MESSAGE: Final = 1024


class Refused(Exception):
    """The fabric said no; the text says why."""


def fabric(arguments: list[str]) -> None:
    """Makes links for whoever asks, until killed."""
    plan = compose_plan()
    with IPRoute() as links:
        network.configure_fabric(links, plan)
        SOCKET.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
            server.bind(str(SOCKET))
            server.listen()
            JOINED.touch()
            print("the fabric accepts members", flush=True)
            serve(server, links, plan)


def serve(server: socket.socket, links: Any, plan: ClusterPlan) -> None:
    """Answers connections one after the other; each stays open, held by a thread that waits for its end."""
    while True:
        connection, _ = server.accept()
        connection.settimeout(ANSWER_SECONDS)
        try:
            answer = {"joined": _admit(connection, links, plan)}
        except Exception as error:  # whatever a member sends, the others must be served
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
        try:
            connection.send(json.dumps(answer).encode())
        except OSError:
            connection.close()
            continue
        threading.Thread(target=_hold, args=(connection,), daemon=True).start()


def join(arguments: list[str]) -> int:
    """Keeps the member's uplinks: asks the fabric, configures this side, waits for the connection's end, asks again."""
    plan = compose_plan()
    member = member_named(plan, arguments[0] if arguments else "")
    while True:
        try:
            with IPRoute() as links, connected(SOCKET) as connection:
                ask(connection, member, links)
                network.route_to_fabric(links, plan, member)
                JOINED.touch()
                print(f"{member.name} has its uplinks", flush=True)
                connection.settimeout(None)
                connection.recv(1)
        except (OSError, Refused) as error:
            print(f"{member.name} has no fabric yet: {error}", file=sys.stderr, flush=True)
        time.sleep(RETRY_SECONDS)


def ask(connection: socket.socket, member: Member, links: Any) -> None:
    """Sends this namespace and says which uplinks are there already. Raises Refused."""
    present = [uplink for uplink in UPLINKS if links.link_lookup(ifname=uplink)]
    request = json.dumps({"member": member.name, "uplinks": present}).encode()
    with open(OWN_NAMESPACE, "rb") as own:
        socket.send_fds(connection, [request], [own.fileno()])
    answer = json.loads(connection.recv(MAX_MESSAGE) or b'{"error": "the fabric hung up"}')
    if "error" in answer:
        raise Refused(answer["error"])


def connected(path: Path) -> socket.socket:
    """A connection to the fabric. OSError without one."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(ANSWER_SECONDS)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def member_named(plan: ClusterPlan, name: str) -> Member:
    """The member. Raises Refused for a name that the plan does not have."""
    found = [member for member in plan.edge_members if member.name == name]
    if not found:
        raise Refused(f"no member is called {name!r}: " + ", ".join(member.name for member in plan.edge_members))
    return found[0]


def _admit(connection: socket.socket, links: Any, plan: ClusterPlan) -> str:
    message, files, _, _ = socket.recv_fds(connection, MAX_MESSAGE, 1)
    with ExitStack() as opened:
        for file in files:
            opened.callback(os.close, file)
        request = json.loads(message)
        member = member_named(plan, str(request["member"]))
        if not files:
            raise Refused("the request carries no namespace")
        complete = set(request["uplinks"]) >= set(UPLINKS) and all(
            links.link_lookup(ifname=network.fabric_link(member, uplink)) for uplink in UPLINKS
        )
        if not complete:
            network.add_uplinks(links, member, files[0])
        network.route_to_member(links, member)
        return member.name


def _hold(connection: socket.socket) -> None:
    connection.settimeout(None)
    try:
        connection.recv(1)
    except OSError:
        pass
    connection.close()
