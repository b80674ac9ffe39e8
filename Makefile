# `make demo` and `make test` are the two commands to know; both prepare what they need.
# Neither needs root, except tests/setup where Debian packages are missing.

CARGO ?= cargo
SEEDS ?= 100000

.PHONY: demo test setup build check unit lab-host lab-guest soak ledger fuzz simulate mutants

demo: setup build
	$(CARGO) run --quiet -p lvs-tests --bin demo

test: check unit lab-host lab-guest

setup:
	tests/setup

# Programs and tests together, so that no test runs a stale program.
build:
	$(CARGO) build --workspace --bins --tests

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

unit: build
	$(CARGO) test --workspace --lib --bins --tests --exclude lvs-tests
	$(CARGO) test -p lvs-tests --lib
	$(CARGO) test --workspace --doc

lab-host: setup build
	$(CARGO) test -p lvs-tests --test host -- $(CASE)

lab-guest: setup build
	$(CARGO) test -p lvs-tests --test guest -- $(CASE)

# Cases that measure, RUNS times each at the bounds that are promised, which takes a machine that
# does nothing else. All figures are printed, and a summary comes last.
RUNS ?= 20
soak: setup build
	LVS_SOAK_RUNS=$(RUNS) $(CARGO) test -p lvs-tests --test host -- $(CASE)
	LVS_SOAK_RUNS=$(RUNS) $(CARGO) test -p lvs-tests --test guest -- $(CASE)

# What is kept of RFC 9568, and how many tests show it.
ledger:
	$(CARGO) run --quiet -p lvs-tests --bin ledger

# Each target for SECONDS, as many at a time as there are processors.
SECONDS ?= 60
fuzz: setup
	fuzz/run $(SECONDS)

# Virtual routers on a bad LAN, on a virtual clock. A seed that fails is printed as a small scenario
# that `simulate --replay` takes.
simulate:
	$(CARGO) run --quiet --profile simulate -p lvs-tests --no-default-features --bin simulate -- --seeds $(SEEDS) --check-table docs/simulation.md

# Whether the simulation finds bugs that are planted.
mutants:
	tests/mutants/run
