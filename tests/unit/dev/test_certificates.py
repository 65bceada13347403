"""The development authority: certificates that TLS libraries accept and that carry the identities RBAC looks at."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from ferrite.dev.certificates import Authority, Identity

POOLLET = Identity("compute.ironcore.dev:system:machinepool:hv1", ("compute.ironcore.dev:system:machinepools",))
SERVER = Identity("ferrite:core-apiserver", (), ("10.77.0.1", "localhost"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_user_and_groups_stand_in_the_subject(authority: Authority) -> None:
    certificate_file, _ = authority.issue("poollet", POOLLET)
    subject = x509.load_pem_x509_certificate(certificate_file.read_bytes()).subject
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [POOLLET.user]
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == list(POOLLET.groups)


def test_a_handshake_succeeds_in_both_directions(authority: Authority) -> None:
    server_file, server_key = authority.issue("server", SERVER)
    client_file, client_key = authority.issue("client", POOLLET)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate_file))
    server.load_cert_chain(server_file, server_key)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(authority.certificate_file))
    client.load_cert_chain(client_file, client_key)

    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="10.77.0.1"),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    peer = ends[0].getpeercert()
    assert peer is not None
    assert ((("commonName", POOLLET.user),)) in peer["subject"]


def test_keys_are_readable_by_their_owner_only(authority: Authority, tmp_path: Path) -> None:
    _, key_file = authority.issue("poollet", POOLLET)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600


def test_a_second_run_keeps_what_there_is(authority: Authority, tmp_path: Path) -> None:
    before = [file.read_bytes() for file in authority.issue("poollet", POOLLET)]
    assert [file.read_bytes() for file in Authority(tmp_path).issue("poollet", POOLLET)] == before
