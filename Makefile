# Each of these does all it needs by itself, from a fresh clone on Debian 12 with cargo; scripts/ says how.
.PHONY: help demo demo-django demo-stop test test-all test-pg-upgrade regress regress-accept isolation cluster attack upgrade django docs python pure bench fuzz install build all dist deb deb-test image image-test lint book clean distclean

# Cases for one tier; the PostgreSQL: a major version, or the pg_config of a server of yours.
export CASE
export PG
export PG_CONFIG

help:
	@echo "make demo                  three companies at work, in a throw-away PostgreSQL (make demo-stop ends it)"
	@echo "make demo-django           a site of django-tenants and its worker, the same way"
	@echo "make test                  all tests; make pure | regress | isolation | cluster | attack | upgrade | django | docs | python: one tier;"
	@echo "                           make test TIERS='lint book': some"
	@echo "make test PG=16            the same with another PostgreSQL: 15, 16, 17 or 18; make test-all: with each of them"
	@echo "make test PG_CONFIG=…      the same with a copy of a server of yours"
	@echo "make test-pg-upgrade       from one PostgreSQL to the next by pg_upgrade, with a hundred tenants at work"
	@echo "make regress CASE=errors   single cases; make regress-accept takes what they printed as expected"
	@echo "make cluster CASE=smoke    the cluster tests whose names contain that"
	@echo "make docs CASE=schedules   the blocks of docs/schedules.md, each run as whom it is for"
	@echo "make bench [N=200000]      throughput, latency, WAL, beside a hand-written loop"
	@echo "make fuzz [SECONDS=60]     random rules, zones and active hours, looking for what fails"
	@echo "make install PG_CONFIG=…   into a PostgreSQL of yours"
	@echo "make dist                  tenant_q-VERSION.zip, for PGXN: installs from source"
	@echo "make deb [PG=17]           a Debian package; make deb-test tries it in a fresh Debian"
	@echo "make image                 an image of the extension for CloudNativePG; make image-test tries it"
	@echo "make book                  README.md and docs/ as a book: target/book/index.html"
	@echo "make lint                  formatting, clippy, shellcheck, pgspot"
	@echo "make clean | distclean     what was built here; distclean: what all checkouts share, too"

demo:
	@demo/run

demo-django:
	@demo/django

demo-stop:
	@demo/stop

test:
	@scripts/test $(TIERS)

test-all:
	@scripts/test-all

test-pg-upgrade:
	@scripts/pg-upgrade

pure:
	@scripts/test pure

regress:
	@scripts/test pg_regress

isolation cluster attack upgrade django docs python:
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
	scripts/setup build && scripts/install "$(PG_CONFIG)"

# pgxn calls this before install, which builds.
all: help

# What is committed, with META.json at its top.
dist:
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml) && \
	git archive --format=zip --prefix="tenant_q-$$version/" -o "tenant_q-$$version.zip" HEAD && echo "tenant_q-$$version.zip"

book:
	@scripts/setup book && scripts/book

deb deb-test image image-test:
	@scripts/$@

lint:
	@scripts/setup tests && scripts/lint all

clean:
	@scripts/clean

distclean:
	@scripts/clean all
