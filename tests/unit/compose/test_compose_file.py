"""docker-compose.yml against the services' settings, the Dockerfile, and the development cluster."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from ferrite.compose.setup import STORAGE_USER, compose_identities, compose_plan, user_of
from ferrite.dev.ceph import CephAccess
from ferrite.dev.services import Services
from services.common.settings import load
from tests.unit.compose.support import ROOT, settings_of

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()

# Containers have these in their environment, where the health check finds the first.
ELSEWHERE = {"--", "--ops-listen", "--trace-directory"}

# Whoever has more than nothing, and why, stands in the compose file.
CAPABILITIES = {
    "setup": {"CHOWN", "DAC_OVERRIDE", "FOWNER"},
    "fabric-uplinks": {"NET_ADMIN"},
    "uplinks": {"NET_ADMIN"},
    "dpservice": {"BPF", "NET_ADMIN", "NET_RAW", "PERFMON"},
    "trace": {"DAC_READ_SEARCH"},
    "libvirtd": {"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_ADMIN", "SETGID", "SETPCAP", "SETUID"},
}


def stages() -> dict[str, str]:
    """Target → its instructions."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def process_of(service: str) -> tuple[str, str] | None:
    """The words after `ferrite` in the image's entry point."""
    found = re.search(r'"ferrite\.cli\.main", "(\S+)", "(\S+)"\]', stages()[SERVICES[service]["build"]["target"]])
    return (found[1], found[2]) if found else None


def arguments(service: str) -> list[str]:
    return shlex.split(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", SERVICES[service]["command"]))


def flags(words: list[str]) -> set[str]:
    return {word for word in words if word.startswith("--") and "=" not in word}


OURS = [name for name in SERVICES if process_of(name)]


@pytest.mark.parametrize("name", OURS)
def test_the_command_line_is_accepted(name: str) -> None:
    process = process_of(name)
    assert process is not None
    load(settings_of(*process), arguments(name), name)


def test_processes_and_flags_are_those_of_the_development_cluster() -> None:
    services = Services(compose_plan())
    processes = [*services.independent_of_ceph(), *services.storage(CephAccess("ceph", "ferrite", Path("/key")))]
    dev = {process.name: flags(list(process.command)) - ELSEWHERE for process in processes}
    names = {name for name in dev if not name.endswith("-libvirtd")}
    assert set(OURS) == names
    assert {name: flags(arguments(name)) for name in names} == {name: dev[name] for name in names}


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_may_do_more_than_listed(name: str) -> None:
    service = SERVICES[name]
    assert not service.get("privileged")
    assert service["cap_drop"] == ["ALL"]
    role = name if name in CAPABILITIES else re.sub(r"^hv\d+-", "", name)
    assert set(service.get("cap_add", [])) == CAPABILITIES.get(role, set())


@pytest.mark.parametrize("name", OURS)
def test_no_service_of_ours_runs_as_root_and_each_reads_its_own_keys_only(name: str) -> None:
    found = re.search(r"^USER (\d+):(\d+)$", stages()[SERVICES[name]["build"]["target"]], re.MULTILINE)
    assert found is not None
    owners = {STORAGE_USER if folder == "ceph-provider" else user_of(folder) for folder in folders(name)}
    assert owners <= {int(found[1])}
    assert int(found[1]) > 0


@pytest.mark.parametrize("name", OURS)
def test_certificates_are_made_for_whoever_names_one(name: str) -> None:
    assert folders(name) - {"ceph-provider"} <= set(compose_identities())


def folders(name: str) -> set[str]:
    return set(re.findall(r"/pki/([^/ ]+)/", SERVICES[name]["command"]))


def test_containers_in_one_namespace_have_ports_of_their_own() -> None:
    seen = []
    for service in SERVICES.values():
        environment = service.get("environment", {})
        if "network_mode" in service and isinstance(environment, dict) and "FERRITE_OPS_LISTEN" in environment:
            seen.append((service["network_mode"], environment["FERRITE_OPS_LISTEN"]))
    assert len(seen) == len(set(seen)) > 0


def test_no_image_asks_for_a_frontend() -> None:
    assert "# syntax=" not in DOCKERFILE
