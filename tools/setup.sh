#!/usr/bin/env bash
# Makes a fresh Debian 12 machine ready: packages, a virtual environment, compiled protos and BPF programs.
# Each step is skipped when its inputs have not changed since it last succeeded. Usage: tools/setup.sh [test]
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  bpftool busybox-static ca-certificates ceph-common ceph-mgr ceph-mon ceph-osd clang cpio curl etcd-client etcd-server
  gcc iproute2 iputils-ping isc-dhcp-client libbpf-dev libc6-dev libvirt-daemon libvirt-daemon-system ovmf
  libvirt-clients llvm make ndisc6 nftables openssl pkg-config procps python3-dev python3-libvirt python3-rados python3-rbd python3-venv
  qemu-block-extra qemu-system-x86 qemu-utils tcpdump
)

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

install_packages() {
  local missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  command -v kubectl >/dev/null || missing+=(kubernetes-client)
  [ ${#missing[@]} -eq 0 ] && return
  echo "setup: installing ${missing[*]}"
  as_root apt-get update -qq
  # Services of these packages must not start by themselves: the cluster runs its own.
  printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
  as_root chmod +x /usr/sbin/policy-rc.d
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  as_root rm -f /usr/sbin/policy-rc.d
}

# The distribution's interpreter, because python3-libvirt, python3-rados and python3-rbd are built for it.
make_environment() {
  local stamp=.venv/stamp want
  want=$(cat pyproject.toml tools/build_hook.py tools/constraints.txt | sha256sum)
  [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && return
  echo "setup: making the Python environment"
  [ -d .venv ] || /usr/bin/python3 -m venv --system-site-packages .venv
  .venv/bin/pip install -q --disable-pip-version-check -c tools/constraints.txt \
    -e '.[dpservice,metalnet,metalbond,libvirt-provider,ceph-provider,dev,telemetry,test]'
  echo "$want" >"$stamp"
}

compile_protos() {
  local stamp=build/protos.stamp want
  want=$(find protos tools/compile_protos.py -name '*.proto' -o -name 'compile_protos.py' | sort | xargs cat | sha256sum)
  [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && [ -f build/descriptors.pb ] && return
  PATH="$PWD/.venv/bin:$PATH" .venv/bin/python tools/compile_protos.py
  echo "$want" >"$stamp"
}

install_packages
make_environment
compile_protos
if [ -f services/dpservice/bpf/Makefile ]; then make -s -C services/dpservice/bpf; fi
make -s -C services/metalbond/native PYTHON="$PWD/.venv/bin/python"
