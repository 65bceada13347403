# One image per service: `docker build --target dpservice .`, or all of them by `docker compose build`.
#
#   requirements ── dependencies ── code            what is compiled and installed; not part of any image
#                        │            │
#                     runtime ────────┴── service ──┬── core-apiserver, metalbond, ...     python and Ferrite
#                        └── dpservice, providers, ceph                                    with the distribution's libraries
#   etcd, libvirtd                                                                         without Python of ours
#
# Debian's own interpreter, because python3-libvirt, python3-rados and python3-rbd are built for it. Layers are ordered by
# how often they change: packages, third-party Python, Ferrite. Each service has a user of its own, who owns its key in
# the volume of certificates; two that talk through a socket of mode 0600 share one.

FROM debian:bookworm-slim AS python
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt

# Apart, so that a pyproject.toml whose requirements are the same changes no further layer.
FROM python AS requirements
COPY pyproject.toml deploy/docker/requirements.py ./
RUN python3 requirements.py pyproject.toml build-system > /build.txt \
 && python3 requirements.py pyproject.toml project > /run.txt

FROM python AS dependencies
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends bpftool clang gcc libbpf-dev libc6-dev llvm make python3-venv \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Build tools live apart from what is shipped; what is shipped needs no pip.
RUN python3 -m venv /tools && python3 -m venv --system-site-packages --without-pip /opt/ferrite
COPY --from=requirements /build.txt /run.txt ./
COPY tools/constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /tools/bin/pip install -q -c constraints.txt -r build.txt \
 && /tools/bin/pip install -q --prefix /opt/ferrite --ignore-installed -c constraints.txt -r run.txt

FROM dependencies AS code
COPY LICENSE README.md pyproject.toml ./
COPY tools tools
COPY protos protos
COPY services services
COPY ferrite ferrite
RUN PATH=/tools/bin:$PATH /tools/bin/pip install -q --no-deps --no-build-isolation --target /code . && rm -rf /code/bin

FROM code AS guest-image
RUN apt-get update -q && apt-get install -y -q --no-install-recommends busybox-static \
 && PYTHONPATH=/code /opt/ferrite/bin/python -m ferrite.dev.guest_image /image \
 && chmod -R a+rX /image

FROM python AS runtime
COPY --from=dependencies /opt/ferrite /opt/ferrite
COPY deploy/docker/ready /usr/local/bin/
ENV PYTHONUNBUFFERED=1
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["ready"]

FROM runtime AS service
COPY --from=code /code /opt/ferrite/lib/python3.11/site-packages
WORKDIR /

FROM service AS core-apiserver
USER 64001:64001
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "core", "apiserver"]

FROM service AS core-controllers
USER 64002:64002
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "core", "controllers"]

FROM service AS net-apiserver
USER 64003:64003
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "net", "apiserver"]

FROM service AS apinetlet
USER 64004:64004
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "net", "apinetlet"]

FROM service AS metalnetlet
USER 64005:64005
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "net", "metalnetlet"]

FROM service AS metalnet-apiserver
USER 64006:64006
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "metalnet", "apiserver"]

FROM service AS metalbond
USER 64007:64007
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "metalbond", "server"]

FROM service AS volumepoollet
USER 64008:64008
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "core", "volumepoollet"]

FROM service AS machinepoollet
USER 64009:64009
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "core", "machinepoollet"]

FROM service AS metalnet-agent
RUN install -d -o 64010 -g 64010 -m 0700 /var/lib/ferrite/metalnet
USER 64010:64010
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "metalnet", "agent"]

# The capabilities are on the interpreter of this one image, since a user who is not root gets none from the engine.
FROM runtime AS dpservice
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends libbpf1 libcap2-bin \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt \
 && setcap cap_bpf,cap_net_admin,cap_net_raw,cap_perfmon+ep /usr/bin/python3.11 \
 && install -d -o 64010 -g 64010 -m 0700 /var/lib/ferrite/dpservice
COPY --from=code /code /opt/ferrite/lib/python3.11/site-packages
USER 64010:64010
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "dpservice", "serve"]

FROM runtime AS libvirt-provider
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends python3-libvirt \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt \
 && install -d -o 64009 -g 64009 -m 0750 /var/lib/ferrite/machines
COPY --from=code /code /opt/ferrite/lib/python3.11/site-packages
USER 64009:64009
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "libvirt-provider", "serve"]

FROM runtime AS ceph-provider
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends python3-rados python3-rbd \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt
COPY --from=code /code /opt/ferrite/lib/python3.11/site-packages
USER 64008:64008
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.cli.main", "ceph-provider", "serve"]

# What follows serves the demonstration: certificates, a fabric of veth pairs, one-node etcd and Ceph, libvirtd and QEMU.

# Holds a network namespace and does nothing else.
FROM debian:bookworm-slim AS pause
USER 65534:65534
ENTRYPOINT ["sleep", "infinity"]

FROM service AS uplinks
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.compose"]

FROM service AS setup
COPY --from=guest-image /image /image
HEALTHCHECK NONE
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.compose", "setup"]

FROM debian:bookworm-slim AS etcd
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends etcd-client etcd-server \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt \
 && install -d -o 64011 -g 64011 -m 0700 /var/lib/ferrite/etcd
USER 64011:64011
ENV ETCDCTL_API=3
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["etcdctl", "endpoint", "health"]
ENTRYPOINT ["etcd"]

FROM runtime AS ceph
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends ceph-common ceph-mgr ceph-mon ceph-osd python3-rados \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt \
 && install -d -o 64012 -g 64012 -m 0700 /var/lib/ferrite/ceph
COPY --from=code /code /opt/ferrite/lib/python3.11/site-packages
USER 64012:64008
HEALTHCHECK --interval=5s --timeout=5s --start-period=90s CMD ["test", "-e", "/run/ferrite/ceph/provider.key"]
ENTRYPOINT ["/opt/ferrite/bin/python", "-m", "ferrite.compose", "ceph"]

FROM debian:bookworm-slim AS libvirtd
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends \
      libvirt-clients libvirt-daemon libvirt-daemon-system ovmf qemu-block-extra qemu-system-x86 qemu-utils \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /etc/libvirt/qemu/networks/autostart \
 && groupadd -g 64009 ferrite && useradd -u 64009 -g ferrite -d / -M -s /usr/sbin/nologin ferrite \
 && install -d -o ferrite -g ferrite -m 0750 /var/lib/ferrite/machines
COPY deploy/docker/libvirt /etc/libvirt
COPY deploy/docker/libvirtd /usr/local/sbin/ferrite-libvirtd
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD ["virsh", "-q", "-r", "version"]
ENTRYPOINT ["ferrite-libvirtd"]
