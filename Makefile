# Each of these does all it needs by itself, from a fresh clone on Debian 12 with cargo; scripts/ says how.
.PHONY: help demo demo-stop test regress regress-accept isolation cluster attack upgrade pure bench fuzz install build lint clean distclean

# Cases for one tier; the major version of PostgreSQL.
export CASE
export PG

help:
	@echo "make demo                  three companies at work, in a throw-away PostgreSQL (make demo-stop ends it)"
	@echo "make test                  all tests; make pure | regress | isolation | cluster | attack | upgrade: one tier"
	@echo "make test PG=16            the same with another PostgreSQL: 15, 16, 17 or 18"
	@echo "make regress CASE=errors   single cases; make regress-accept takes what they printed as expected"
	@echo "make cluster CASE=smoke    the cluster tests whose names contain that"
	@echo "make bench [N=200000]      throughput, latency, WAL, beside a hand-written loop"
	@echo "make fuzz [SECONDS=60]     random rules, zones and active hours, looking for what fails"
	@echo "make install PG_CONFIG=…   into a PostgreSQL of yours"
	@echo "make lint                  formatting, clippy, shellcheck"
	@echo "make clean | distclean     what was built here; distclean: cargo-pgrx too"

demo:
	@demo/run

demo-stop:
	@demo/stop

test:
	@scripts/test $(TIERS)

pure:
	@scripts/test pure

regress:
	@scripts/test pg_regress

isolation cluster attack upgrade:
	@scripts/test $@

# TIER=isolation for the other one.
regress-accept:
	@scripts/regress $(or $(TIER),pg_regress) --accept $(CASE)

bench:
	@bench/run $(if $(N),--tasks $(N)) $(BENCH)

fuzz:
	@scripts/fuzz $(SECONDS)

build:
	@scripts/setup && scripts/install

install:
	@$(if $(PG_CONFIG),,echo "which PostgreSQL? make install PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config" >&2; exit 1;) \
	scripts/setup && scripts/install "$(PG_CONFIG)"

lint:
	@scripts/lint

clean:
	@scripts/clean

distclean:
	@scripts/clean all
