# Builds, tests and measures the extension. `make` alone lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:

# The PostgreSQL to build for, install into and test with.
PG_CONFIG ?= /usr/lib/postgresql/15/bin/pg_config
export PG_CONFIG
export PGRX_PG_CONFIG_PATH = $(PG_CONFIG)

# Where .ci/deps and rustup put cargo and its tools.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
export CARGO_TERM_COLOR ?= never

# Asked for when a recipe runs, since `make deps` may be what installs it.
PG_MAJOR = $(shell $(PG_CONFIG) --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
FEATURES = --no-default-features --features pg$(PG_MAJOR)
# The system's PostgreSQL belongs to root.
INSTALL_SUDO = $(shell test -w "$$($(PG_CONFIG) --pkglibdir)" || echo --sudo)

# The measuring tool does not need the extension's slow whole-program optimisation.
DEMO_ENV = CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
DEMO_TOOL = $(DEMO_ENV) cargo run --quiet --release -p omen-demo -- \
	$(if $(ROWS),--rows $(ROWS)) $(if $(CANDIDATE),--candidate $(CANDIDATE)) $(DEMO_ARGS)

.PHONY: help
help:
	@echo 'make demo           omen beside btree: table, target/demo/results.{svg,json}'
	@echo 'make install        release build into the PostgreSQL of PG_CONFIG'
	@echo 'make test           all tests: test-core test-pgrx test-regress test-isolation test-tap'
	@echo 'make test-rare      states that are seldom seen, in a build with small pages: recovery to'
	@echo '                    every WAL record, every half-done change (PITR_STEP=1 for all records)'
	@echo 'make sim            fresh seeds of the simulator, SEEDS=2000, or SEED=n'
	@echo 'make differential   random tables and queries, QUERIES=20000, SEED=n to repeat'
	@echo 'make soak           kills of a server under load, CYCLES=200; then load, DURATION=3600'
	@echo 'make test-planted   plants faults, each of which a test must find; PLANTED=core|fuzz|'
	@echo '                    server|rare|memory'
	@echo 'make fuzz           libFuzzer on the core, SECONDS_EACH=15 for each target, or executions'
	@echo '                    of each: RUNS=10000000 is the full form'
	@echo 'make miri           unit tests of the core under Miri; MIRI_SET=short: codecs, models'
	@echo 'make test-assert    all but test-core on a PostgreSQL 15 built with assertions'
	@echo 'make test-matrix    the same on 15, 17 and 18, or VERSIONS="..."'
	@echo 'make test-valgrind  test-regress on a server under Valgrind'
	@echo 'make test-upgrade   pg_upgrade from 15 to 17 to 18, or VERSIONS="..."'
	@echo 'make release-sql    keeps the SQL of a version that is released: sql/released'
	@echo 'make lint           formatting, clippy and rustdoc, without warnings'
	@echo 'make check-versions compiles for PostgreSQL 14 and 16, of which no server is needed'
	@echo 'make bench-sizes    sizes, builds and lookups on 10 million rows, five distributions'
	@echo 'make bench          every workload beside btree, hash and BRIN, with goals: tables, plots,'
	@echo '                    target/bench/benchmarks.md; ROWS=10000000, QUICK=1, ONLY=name,name'
	@echo 'make keep-bench     the last full run of it becomes docs/benchmarks.md'
	@echo '                    (keep-bench-100M: one of 100 million rows, docs/benchmarks-100M.md)'
	@echo 'make test-bench     answers, plans and sizes of every workload of it, on small tables'
	@echo 'make bench-micro    criterion benchmarks of the core'
	@echo 'make build          debug build'
	@echo 'make deps           what all of these need, installed once'
	@echo 'make clean          remove what was built'
	@echo
	@echo 'PG_CONFIG=path      another PostgreSQL (now $(PG_CONFIG))'
	@echo 'TESTS="a b"         only these tests (test-regress, test-isolation, test-tap)'
	@echo 'ROWS=n              rows per data set (demo, bench, bench-sizes)'
	@echo 'CANDIDATE=method    the access method shown beside btree (demo, bench-sizes)'
	@echo 'DEMO_ARGS=...       further options: make demo DEMO_ARGS=--help'

.PHONY: deps
deps:
	@.ci/deps

.PHONY: build
build:
	cargo pgrx package --debug --pg-config "$(PG_CONFIG)" $(FEATURES)

# Empty: a debug build.
INSTALL_PROFILE ?= --release

.PHONY: install
install:
	cargo pgrx install $(INSTALL_PROFILE) --pg-config "$(PG_CONFIG)" $(INSTALL_SUDO) $(FEATURES)

# The order matters: `cargo pgrx test` installs a test build of the extension,
# which the release build of the later suites replaces.
.PHONY: test
test: test-core test-pgrx test-regress test-isolation test-tap

.PHONY: test-core
test-core:
	cargo test -p omen-core
	cargo test -p omen-demo

.PHONY: test-pgrx
test-pgrx:
	tests/run/pgrx

.PHONY: test-regress
test-regress: install
	tests/run/regress $(TESTS)

.PHONY: test-isolation
test-isolation: install
	tests/run/isolation $(TESTS)

.PHONY: test-tap
test-tap: install
	tests/run/tap $(TESTS)

# The build for tests has small pages and stop points; it must not stay installed.
.PHONY: test-rare
test-rare:
	$(MAKE) --no-print-directory install FEATURES='$(FEATURES),small_pages,stop_points'
	TAP_SET=rare tests/run/tap $(TESTS) || status=$$?; \
		$(MAKE) --no-print-directory install && exit $${status:-0}

# Fresh seeds of the simulator, or SEED=n alone. What fails prints its seed.
SEEDS ?= 2000
.PHONY: sim
sim:
	OMEN_SIM_SEEDS=$(SEEDS) $(if $(SEED),OMEN_SIM_SEED=$(SEED)) cargo test --release -p omen-core --lib -- \
		--nocapture --test-threads=1 tree::tests::interleave tree::tests::crash tree::tests::faults \
		tree::tests::checks tree::tests::damage tree::tests::old_pages

# Random tables, changes and queries, from omen, btree and no index at all.
QUERIES ?= 20000
.PHONY: differential
differential: install
	QUERIES=$(QUERIES) $(if $(SEED),SEED=$(SEED)) tests/run/tap 010_differential

# Kills of a server under load, each followed by a check of every index; then
# seconds of load and some shutdowns in the middle of it.
CYCLES ?= 200
DURATION ?= 3600
.PHONY: soak
soak: install
	CYCLES=$(CYCLES) tests/run/tap 011_kill_cycles
	CYCLES=12 DURATION=$(DURATION) tests/run/tap 008_pgbench_mixed

# Tests that find nothing when there is something to find are none.
.PHONY: test-planted
test-planted:
	tests/run/planted $(PLANTED)

.PHONY: fuzz
fuzz:
	tests/run/fuzz $(TESTS)

# The interpreter sees undefined behaviour, and leaks, in what the core calls.
.PHONY: miri
miri:
	tests/run/miri $(MIRI_SET)

# PostgreSQL built with assertions, which the first run builds.
VERSIONS ?= 15 17 18

.PHONY: test-matrix
test-matrix:
	@.ci/test-matrix $(VERSIONS)

.PHONY: test-assert
test-assert:
	@.ci/test-matrix 15

# The server's own build tells Valgrind what memory is in use.
.PHONY: test-valgrind
test-valgrind:
	@SUITES=under-valgrind .ci/test-matrix 15

.PHONY: test-under-valgrind
test-under-valgrind: install
	tests/run/valgrind $(TESTS)

# A major version, or the path of a pg_config. The extension is installed into each.
.PHONY: test-upgrade
test-upgrade:
	tests/run/upgrade $(VERSIONS)

# The test 014_extension_update holds every later build against it.
EXTENSION_SQL = omendb_index--$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml).sql

.PHONY: release-sql
release-sql:
	@test ! -e sql/released/$(EXTENSION_SQL) || { \
		echo 'error: sql/released/$(EXTENSION_SQL) is there already: raise the version in Cargo.toml,'; \
		echo 'or remove the file if that version has not been released'; exit 1; } >&2
	$(MAKE) --no-print-directory install
	sed -E '/^-- src\/[^ ]+:[0-9]+$$/d; /^-- omendb_index::/d' \
		"$$($(PG_CONFIG) --sharedir)/extension/$(EXTENSION_SQL)" > sql/released/$(EXTENSION_SQL)

.PHONY: lint
lint:
	cargo fmt --all --check
	rustfmt --check --edition 2024 core/fuzz/src/*.rs core/fuzz/targets/*.rs
	cargo clippy --workspace --all-targets $(FEATURES) -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace $(FEATURES) --no-deps --document-private-items

# The versions that no server is built of: that the extension compiles for them.
.PHONY: check-versions
check-versions:
	for major in 14 16; do \
		DOCS_RS=1 RUSTC_WRAPPER="$$PWD/.ci/rustc-own-bindings" cargo check \
			--target-dir target/own-bindings --no-default-features --features "pg$$major" || exit; \
	done

.PHONY: demo
demo:
	@.ci/deps demo
	@echo 'installing a release build of the extension into the PostgreSQL of $(PG_CONFIG)'
	@$(MAKE) --no-print-directory install
	@$(DEMO_TOOL)

.PHONY: bench-sizes
bench-sizes: install
	@$(DEMO_TOOL) --sizes

BENCH_TOOL = $(DEMO_ENV) cargo run --quiet --release -p omen-demo -- bench \
	$(if $(ONLY),--only $(ONLY)) $(if $(CANDIDATE),--candidate $(CANDIDATE))

.PHONY: bench
bench: install
	@$(BENCH_TOOL) $(if $(ROWS),--rows $(ROWS)) $(if $(QUICK),--quick) $(BENCH_ARGS)

# Keeps the last run of the benchmark with the documentation, and with it what is written
# about the goals.
.PHONY: keep-bench
keep-bench:
	@! grep -E '^make bench .*(QUICK|ONLY)' target/bench/benchmarks.md \
		|| { echo 'This is not a full run.' >&2; exit 1; }
	$(call keep,benchmarks,where-the-time-goes.md)

# The same for a run with 100 million rows, of whatever workloads.
.PHONY: keep-bench-100M
keep-bench-100M:
	@grep -qE '^make bench ROWS=100000000' target/bench/benchmarks.md \
		|| { echo 'This is not a run with 100 million rows.' >&2; exit 1; }
	$(call keep,benchmarks-100M,at-100-million-rows.md)

# keep NAME, TEXT: the run as docs/NAME.md, its pictures and numbers in docs/NAME, and
# docs/TEXT behind the goals that were measured.
define keep
mkdir -p docs/$(1)
rm -f docs/$(1)/*.svg
cp target/bench/results.json docs/$(1)/
grep -o '([a-z]*\.svg)' target/bench/benchmarks.md | tr -d '()' \
	| xargs -I{} cp target/bench/{} docs/$(1)/
awk '/^## / && goals { while ((getline line < "docs/$(2)") > 0) print line; \
	print ""; goals = 0 } /^## Goals/ { goals = 1 } { print }' target/bench/benchmarks.md \
	| grep -v '| not measured |' \
	| sed 's|](\([a-z]*\.svg\))|]($(1)/\1)|' > docs/$(1).md
endef

# Every workload of the benchmark once, on small tables: answers, plans and sizes.
.PHONY: test-bench
test-bench: install
	@$(BENCH_TOOL) --check --rows $(or $(ROWS),20000) --out target/test-bench $(BENCH_ARGS)

.PHONY: bench-micro
bench-micro:
	cargo bench -p omen-core --bench micro

.PHONY: clean
clean:
	cargo clean
