# `make demo` and `make test` are the two commands to know; both prepare what they need.
# Neither needs root, except tests/setup where Debian packages are missing.

CARGO ?= cargo
SEEDS ?= 100000

.PHONY: bench demo man test setup build check unit lab-host lab-guest lab-anycast lab-operator lab-packages page labs-together soak ledger fuzz simulate mutants deb rpm stage packages

demo: setup build
	$(CARGO) run --quiet -p lvs-tests --bin demo

test: check unit lab-host labs-together

setup:
	tests/setup

# Programs and tests together, so that no test runs a stale program.
build:
	$(CARGO) build --workspace --bins --tests

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# Always the whole workspace, by the names of its test programs: for one package alone cargo picks other
# features of what it depends on, and would build all of it again.
unit: build
	$(CARGO) test --workspace --lib --bins --test corpus --test interleavings --test kernel --test mutated_answers
	$(CARGO) test --workspace --doc

lab-host: setup build
	tests/run host $(CASE)

lab-guest: setup build
	tests/run guest $(CASE)

lab-anycast: setup build
	tests/run anycast $(CASE)

# The pictures of docs/page, of a page that has something to show: takes four minutes.
page: setup build
	LVS_SCREENSHOTS=$(CURDIR)/docs/page tests/run operator page::shows_a_failover

lab-operator: setup build
	tests/run operator $(CASE)

# Packages are made with tools that take minutes to build, so these aren't part of `make test`. As root,
# for they boot a clean Debian.
lab-packages: build packages
	tests/setup packages
	tests/run packages $(CASE)

# The guest computes while routing daemons and people wait, so it runs beside those two. What they
# printed comes after its end; a failure of any fails.
labs-together: setup build
	@log=$$(mktemp); \
	{ trap 'kill $$one; exit 1' TERM; failed=0; \
	  for program in anycast operator; do \
	    tests/run $$program & one=$$!; \
	    wait $$one || failed=$$?; \
	  done; exit $$failed; } >"$$log" 2>&1 & others=$$!; \
	trap 'kill $$others; rm -f "$$log"' INT TERM; \
	status=0; \
	tests/run guest || status=$$?; \
	wait $$others || status=$$?; \
	cat "$$log"; rm -f "$$log"; exit $$status

# Cases that measure, RUNS times each at the bounds that are promised, which takes a machine that
# does nothing else. All figures are printed, and a summary comes last.
RUNS ?= 20
soak: setup build
	LVS_SOAK_RUNS=$(RUNS) tests/run host $(CASE)
	LVS_SOAK_RUNS=$(RUNS) tests/run guest $(CASE)
	LVS_SOAK_RUNS=$(RUNS) tests/run anycast $(CASE)
	LVS_SOAK_RUNS=$(RUNS) tests/run operator $(CASE)

# The director beside keepalived and ipvsadm, dying servers and thousands of probes. Takes a machine that
# does nothing else; `target/release/bench FILE PART` renews one part.
bench: setup
	$(CARGO) build --release -p director -p lvs-tests --bin director --bin bench
	$(CARGO) run --quiet --release -p lvs-tests --bin bench docs/benchmarks.md

# Man pages (man8) and completions (bash, zsh, fish) of both programs, made from their command lines, into
# target/man. All programs are built, as everywhere, so that nothing is built twice.
man:
	$(CARGO) build --workspace --bins
	$${CARGO_TARGET_DIR:-target}/debug/manual $${CARGO_TARGET_DIR:-target}/man

# What is kept of RFC 9568, and how many tests show it.
ledger:
	$(CARGO) run --quiet -p lvs-tests --bin ledger

# Each target for SECONDS, as many at a time as there are processors; and a million mutated answers.
SECONDS ?= 60
fuzz: setup
	LVS_MUTATIONS=1000000 $(CARGO) test --profile fuzz -p lvs-proto --test mutated_answers -- --nocapture
	fuzz/run $(SECONDS)

# Virtual routers on a bad LAN, on a virtual clock. A seed that fails is printed as a small scenario
# that `simulate --replay` takes.
simulate:
	$(CARGO) run --quiet --profile simulate -p lvs-tests --no-default-features --bin simulate -- --seeds $(SEEDS) --check-table docs/simulation.md

# Whether the simulation finds bugs that are planted.
mutants:
	tests/mutants/run

# Packages of both programs, into target/package. PROFILE=dev takes what tests run, which is quick to make.
PROFILE ?= release
PACKAGER := target/tools/bin
CARGO_DEB := 3.8.0
CARGO_GENERATE_RPM := 0.21.1

# For tests, when something in them is newer.
packages: build
	@made=target/package/made; debug=$${CARGO_TARGET_DIR:-target}/debug; \
	if [ ! -e $$made ] || [ -n "$$(find $$debug/director $$debug/rs-agent deploy docs -newer $$made)" ]; then \
	  $(MAKE) --no-print-directory PROFILE=dev deb rpm && touch $$made; \
	fi

deb: stage $(PACKAGER)/cargo-deb
	for package in director realserver-agent; do \
	  $(PACKAGER)/cargo-deb --quiet $(if $(filter dev,$(PROFILE)),--fast) --no-build --no-strip --package $$package --output target/package/ || exit; \
	done

rpm: stage $(PACKAGER)/cargo-generate-rpm
	for package in director realserver-agent; do \
	  $(PACKAGER)/cargo-generate-rpm --package $$package --output target/package/ || exit; \
	done

stage: man
ifneq ($(PROFILE),dev)
	$(CARGO) build --profile $(PROFILE) -p director -p realserver-agent --bins
endif
	deploy/package/stage $(PROFILE)

$(PACKAGER)/cargo-deb:
	$(CARGO) install --quiet --locked --root target/tools --version $(CARGO_DEB) cargo-deb

$(PACKAGER)/cargo-generate-rpm:
	$(CARGO) install --quiet --locked --root target/tools --version $(CARGO_GENERATE_RPM) cargo-generate-rpm
