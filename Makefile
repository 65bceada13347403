# Every target makes the machine ready by itself (tools/setup.sh); run as root.
PY := .venv/bin/python

.PHONY: compose-check compose-clean compose-units setup upgrade protos docs lint unit integration e2e test demo demo-down demo-check kill-check bench-packets bench-apiserver bench-apply bench-metalbond bench-plots soak-dpservice scale-dpservice clean

setup:
	@tools/setup.sh

# The newest versions of third-party packages, which every fresh environment has from then on.
upgrade: setup
	.venv/bin/pip install -q --upgrade --upgrade-strategy eager -e '.[dpservice,metalnet,metalbond,dev,telemetry,test]'
	{ head -1 tools/constraints.txt; .venv/bin/pip freeze --local --exclude-editable; } > build/constraints.txt
	mv build/constraints.txt tools/constraints.txt

protos: setup

# The pages that are made of the protos and of the processes' settings.
docs: setup
	$(PY) tools/settings_reference.py
	$(PY) tools/api_reference.py
	$(PY) tools/metrics_reference.py

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

unit: setup
	.venv/bin/pytest tests/unit

integration: setup
	.venv/bin/pytest tests/integration

e2e: setup
	.venv/bin/pytest tests/e2e

# Two components at a time, the whole cluster by itself. Real guests under emulation can miss a deadline on a busy
# machine: what fails is tried once more, and listed as rerun.
test: lint
	.venv/bin/pytest tests/e2e --reruns 1 -rR
	.venv/bin/pytest tests/unit tests/integration -n 2 --reruns 1 -rR

demo: setup
	$(PY) -m ferrite.cli.main dev demo

demo-down:
	$(PY) -m ferrite.cli.main dev down

demo-check: setup
	$(PY) -m ferrite.cli.main dev check

# ONLY="etcd hv1-dpservice" runs these cases only.
kill-check: setup
	$(PY) -m ferrite.cli.main dev --name kill --state build/kill --management 10.80.0.0/24 --underlay fd80::/48 \
		kill-check $(addprefix --only ,$(ONLY))

# The containers' cluster as a test; without a reachable Docker engine it runs one of its own, with data below build/.
compose-check: setup
	$(PY) -m ferrite.compose check

# The systemd units: a control plane and a hypervisor from their ExecStart lines, in namespaces.
compose-units: setup
	$(PY) -m ferrite.compose units

# Images, build cache and the engine that compose-check made.
compose-clean: setup
	$(PY) -m ferrite.compose engine stop
	rm -rf build/compose

# Figures, each with its machine, into build/bench; docs/performance.md explains them.
# CURVES=--curves: also what the plots of cost against the size of tables need.
bench-packets: setup
	$(PY) -m bench.packets $(CURVES)

bench-apiserver: setup
	$(PY) -m bench.apiserver

bench-apply: setup
	$(PY) -m bench.apply

# METALBOND_BINARY=/path/to/another/server gives ratios to it as well; CURVES=--curves what the plots need.
bench-metalbond: setup
	$(PY) -m bench.metalbond $(CURVES)

# Ten minutes of API calls and traffic while the data plane is killed every 20 seconds; fails if anything leaks.
soak-dpservice: setup
	$(PY) -m bench.soak_dpservice --seconds 600 --kill-every 20

# A million flows, a million routes, 1,024 ports on one data plane: PASS or FAIL, and the memory that they take.
scale-dpservice: setup
	$(PY) -m bench.scale_dpservice

bench-plots: setup
	$(PY) -m bench.plots

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache
	find protos -name '*_pb2*' -delete
