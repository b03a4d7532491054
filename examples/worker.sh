#!/usr/bin/env bash
# A worker in bash and psql:  PGUSER=worker bash worker.sh tasks
#
# tasks/NAME.sql is what it does for tasks of handler NAME: run in one transaction with the end of the task, the tenant's schema
# first on search_path. :'args' are the arguments, one document. It offers those handlers of which there is a file.
set -euo pipefail

tasks=$1
handlers=$(cd "$tasks" && printf '%s\n' *.sql | sed 's/\.sql$//' | paste -sd ,)
psql=(psql -X -q -A -t -v ON_ERROR_STOP=1 -v VERBOSITY=verbose)
stopping=
unwanted= # claims of tasks that go back unless they have begun
trap 'stopping=1' TERM

# One session takes, and its end is the end of what it has taken: behind no pooler. Subshells don't know a coprocess by its name.
coproc psql -X -q -A -t -F $'\t' -v ON_ERROR_STOP=1
exec {to_taker}>&"${COPROC[1]}" {from_taker}<&"${COPROC[0]}"

# What the taker's session answers, to the row that says that this is all.
ask() {
    local line
    printf "%s SELECT '-';\n" "$1" >&"$to_taker"
    while read -r line <&"$from_taker"; do
        [ "$line" != - ] || return 0
        printf '%s\n' "$line"
    done
    return 1
}

# Says that we live, and hears what is to be given up.
hear() {
    local claim what
    while IFS=$'\t' read -r what claim; do
        # Without a claim it is drain: all are to begin anew (tq_recycle). Whoever has started us does so again.
        [ -z "$what" ] || [ -n "$claim" ] || stopping=1
        unwanted+=" $claim"
    done <<<"$(ask "SELECT what, claim FROM tq_watch();")"
}

release() { # claim
    local said
    said=$("${psql[@]}" -c "SELECT tq_release('$1')" 2>&1) || [[ $said == *TQ007:* ]]
}

finish() { # claim, tenant, handler, args: says what psql complains of
    # shellcheck disable=SC2069 # that alone
    {
        printf "SELECT set_config('search_path', quote_ident(:'tenant') || ', public', true) \\\\g /dev/null\n"
        cat "$tasks/$3.sql"
        printf "\nSELECT tq_finish(:'claim');\n"
    } | "${psql[@]}" -1 -f - -v claim="$1" -v tenant="$2" -v args="$4" 2>&1 >/dev/null
}

give_up() { # claim, what psql has said
    "${psql[@]}" -v claim="$1" -v said="$2" >/dev/null <<'SQL'
SELECT tq_give_up(:'claim', jsonb_build_object('message', split_part(:'said', E'\n', 1), 'class', 'psql.Error', 'traceback', :'said'));
SQL
}

run() {
    local said status=
    # Answers with what psql has complained of; meanwhile the taker's session says that we live.
    exec {done}< <(said=$(finish "$@") && printf 'ok\0' || printf '%s\0' "$said")
    until read -r -d '' -t 5 said <&"$done" || { status=$?; [ "$status" -le 128 ]; }; do
        hear
    done
    exec {done}<&-
    # TQ007: it isn't ours any more, and nothing of it stands.
    [ "$said" = ok ] || [[ $said == *TQ007:* ]] || give_up "$1" "$said"
}

while [ -z "$stopping" ]; do
    taken=$(ask "SELECT claim, tenant, handler, args FROM tq_take(4, handlers => '{$handlers}', worker => 'worker.sh');")
    while IFS=$'\t' read -r claim tenant handler args; do
        [ -n "$claim" ] || continue
        if [ -n "$stopping" ] || [[ $unwanted == *"$claim"* ]]; then
            release "$claim"
        else
            run "$claim" "$tenant" "$handler" "$args"
        fi
    done <<<"$taken"
    [ -z "$taken$stopping" ] || continue
    (ask "CALL tq_await('2 seconds', handlers => '{$handlers}');")
    hear
done
