-- The order of tasks is that in which they were enqueued or ended, whatever ids they have; and what stays is what somebody still waits for.
\i sql/setup.psql
-- Now, so that every executor has heard of it by then.
ALTER SYSTEM SET tenant_q.retention_every = 1;
SELECT pg_reload_conf();
CREATE ROLE owner LOGIN;
CREATE SCHEMA acme AUTHORIZATION owner;
SELECT tq_attach('acme');
SET ROLE owner;
SET search_path = acme, public;
CREATE FUNCTION ok(k text) RETURNS text LANGUAGE sql AS $$ SELECT k $$;
CREATE TABLE opened (k text);
CREATE FUNCTION gate(k text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN WHILE NOT EXISTS (SELECT FROM acme.opened o WHERE o.k = gate.k) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN k; END $$;
CREATE FUNCTION bad(k text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'bad %', k; END $$;
SELECT bool_and(tq_register(f, max_attempts => 1)) FROM unnest('{ok,gate,bad}'::text[]) f;
-- Ids of one's own, the later the smaller.
CREATE FUNCTION own_id(n int) RETURNS uuid LANGUAGE sql AS $$ SELECT overlay('ffffffff-0000-4000-8000-000000000000' placing to_char(9999 - n, 'FM0000') from 1 for 4)::uuid $$;

-- A group's results are told in the order in which its tasks were enqueued; run again, a task keeps its place.
SELECT count(tq_async('ok', to_jsonb(n::text), group_id => 'g', id => own_id(n))) FROM generate_series(1, 9) n;
SELECT tq_result_group('g', wait => '20 s');
SELECT string_agg(result ->> 0, ' ' ORDER BY ordinality) FROM tq_fetch_group('g') WITH ORDINALITY;
SELECT tq_requeue(own_id(5));
SELECT tq_result_group('g', count => 9, wait => '20 s');
SELECT count(DISTINCT created_at) = 9 AS distinct, array_agg(args ->> 0 ORDER BY created_at) = array_agg(args ->> 0 ORDER BY id DESC) AS increasing FROM tq_results WHERE group_id = 'g';
BEGIN;
SELECT count(tq_async('ok', '"x"', group_id => 'many', delay => '1 hour')) FROM generate_series(1, 1000);
SELECT count(DISTINCT created_at), count(DISTINCT run_at) FROM tq_task WHERE group_id = 'many';
ROLLBACK;
-- The newest of a name is the one that was enqueued last.
SELECT count(tq_async('ok', to_jsonb(n::text), name => 'named', id => own_id(20 + n))) FROM generate_series(1, 3) n;
SELECT tq_find('named') = own_id(23);
SELECT tq_result(tq_find('named'), wait => '20 s');

-- Kept are the successes that ended last.
SELECT test.await('(NOT EXISTS (SELECT FROM acme.tq_task))');
SELECT tq_purge('0') > 0;
SELECT tq_set_tenant(save_limit => 2, result_ttl => '0');
SELECT tq_async('gate', to_jsonb(n::text), id => own_id(30 + n)) = own_id(30 + n) FROM generate_series(1, 4) n;
CREATE PROCEDURE open_in_turn(ks text[]) LANGUAGE plpgsql AS $$
DECLARE k text;
BEGIN
    FOREACH k IN ARRAY ks LOOP
        INSERT INTO opened VALUES (k);
        COMMIT;
        PERFORM test.await(format('(NOT EXISTS (SELECT FROM acme.tq_task WHERE args = to_jsonb(%L::text)))', k));
    END LOOP;
END $$;
CALL open_in_turn('{3,1,4,2}');
SELECT test.await('(SELECT count(*) = 2 FROM acme.tq_result)');
SELECT args FROM tq_results ORDER BY finished_at;

-- A task that says itself how long its result stays is heard of among those that stay longer.
SELECT tq_purge('0') > 0;
SELECT tq_set_tenant(save_limit => 0, result_ttl => '1 hour');
SELECT count(tq_async('ok', to_jsonb('stays ' || n))) FROM generate_series(1, 3) n;
SELECT tq_async('ok', '"brief"', result_ttl => '0') IS NOT NULL;
SELECT tq_async('ok', '"stays 4"') IS NOT NULL;
SELECT test.await($$(NOT EXISTS (SELECT FROM acme.tq_task) AND NOT EXISTS (SELECT FROM acme.tq_result WHERE args = '"brief"'))$$);
SELECT args FROM tq_results ORDER BY args;
SELECT tq_set_tenant(result_ttl => '0');

-- What somebody who asks for so many of a group still needs stays until the last of it has ended.
SELECT tq_purge('0');
SELECT tq_set_tenant(save_limit => 1);
TRUNCATE opened;
SELECT tq_async('gate', '"6"', group_id => 'h') AS gate \gset
SELECT count(tq_async('ok', to_jsonb(n::text), group_id => 'h')) FROM generate_series(1, 5) n;
SELECT tq_group('[{"handler": "bad", "args": "member 1"}, {"handler": "ok", "args": "member 2"}, {"handler": "ok", "args": "member 3"}]') AS flow \gset
SELECT state FROM tq_fetch(:'flow', wait => '20 s');
-- Also those that were picked together with the one that goes on.
SELECT test.await($$(SELECT count(*) = 5 FROM acme.tq_result WHERE group_id = 'h')$$);
-- Others go meanwhile.
SELECT count(tq_async('ok', '"other"')) FROM generate_series(1, 5);
SELECT test.await($$(NOT EXISTS (SELECT FROM acme.tq_task WHERE handler = 'ok')) AND (SELECT count(*) = 1 FROM acme.tq_result WHERE args = '"other"')$$);
SELECT tq_result_group('h', count => 5);
INSERT INTO opened VALUES ('6');
SELECT tq_result(:'gate', wait => '20 s');
SELECT tq_async('ok', '"one more"') IS NOT NULL;
SELECT test.await($$(SELECT count(*) = 0 FROM acme.tq_result WHERE group_id = 'h')$$);
-- Members of a flow that has not ended well stay as long as it does.
SELECT handler, args FROM tq_results WHERE parent_id = :'flow' ORDER BY args;

-- A failure that retention has taken is one all the same, and a success a success, for those that have not looked yet.
TRUNCATE opened;
SELECT tq_async('gate', '"7"') AS gate, tq_async('ok', '"well"') AS well, tq_async('bad', '"unwell"') AS unwell \gset
SELECT tq_async('ok', '"after well"', depends_on => ARRAY[:'well', :'gate']::uuid[], run_at => '2200-01-01') AS after_well, tq_async('ok', '"after unwell"', depends_on => ARRAY[:'unwell']::uuid[], run_at => '2200-01-01') AS after_unwell \gset
SELECT tq_set_tenant(failure_ttl => '0');
SELECT test.await(format('(NOT EXISTS (SELECT FROM acme.tq_task WHERE id IN (%L, %L)))', :'well', :'unwell'));
SELECT tq_async('ok', '"one more"') IS NOT NULL;
SELECT test.await(format('(NOT EXISTS (SELECT FROM acme.tq_result WHERE id IN (%L, %L)))', :'well', :'unwell'));
INSERT INTO opened VALUES ('7');
SELECT tq_result(:'gate', wait => '20 s');
SELECT tq_set_tenant(failure_ttl => '1 hour');
SELECT tq_update(:'after_unwell', run_at => now()), tq_update(:'after_well', run_at => now());
SELECT regexp_replace(tq_result(:'after_unwell', wait => '20 s', propagate => false) ->> 0, '[0-9a-f-]{36}', '…');
SELECT tq_result(:'after_well', wait => '20 s');
-- A table that was made before there was an index for it has them go by id.
SELECT test.await('(NOT EXISTS (SELECT FROM acme.tq_task))');
SELECT tq_purge('0') > 0;
DROP INDEX tq_result_finished;
SELECT tq_set_tenant(save_limit => 2, failure_ttl => '0');
SELECT count(tq_async('ok', to_jsonb('by id ' || n))) FROM generate_series(1, 5) n;
SELECT count(tq_async('bad', to_jsonb('by id ' || n))) FROM generate_series(1, 5) n;
SELECT test.await($$(NOT EXISTS (SELECT FROM acme.tq_task)) AND (SELECT array_agg(args ->> 0 ORDER BY id) = '{by id 4,by id 5}' FROM acme.tq_result)$$);
SELECT tq_set_tenant(reset => '{save_limit,result_ttl,failure_ttl}');
RESET ROLE;
ALTER SYSTEM RESET tenant_q.retention_every;
SELECT pg_reload_conf();
