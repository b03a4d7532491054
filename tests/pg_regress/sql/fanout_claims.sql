-- What a tenant's owner writes into its own rows doesn't keep the schedules of all tenants from the others, nor from it.
\i sql/setup.psql
SET client_min_messages = warning;
CREATE ROLE owner LOGIN;
SELECT format('CREATE SCHEMA %I AUTHORIZATION owner', n) FROM unnest('{alpha,beta}'::text[]) n \gexec
SELECT count(tq_attach(n)) FROM unnest('{alpha,beta}'::text[]) n;
CREATE FUNCTION public.note(what text) RETURNS void LANGUAGE sql AS '';
SELECT tq_register('note', 'public.note(text)', shared => true);
RESET client_min_messages;

-- More definitions than one step brings
SELECT count(tq_schedule_all('d' || to_char(n, 'FM000'), 'note', '@yearly', '["x"]')) FROM generate_series(1, 230) n;
SELECT test.await('(SELECT count(*) = 460 FROM (SELECT FROM alpha.tq_schedule UNION ALL SELECT FROM beta.tq_schedule) x)');

-- Rows of its own, in front of more that claim to be of all tenants than one step removes; some of all tenants are gone
SET ROLE owner;
SELECT tq_schedule('a', 'note', '@yearly', '["own"]', tenant => 'alpha', enabled => false) IS NOT NULL;
INSERT INTO alpha.tq_schedule
SELECT (jsonb_populate_record(s, jsonb_build_object('name', 'b' || n))).* FROM alpha.tq_schedule s, generate_series(1, 1500) n WHERE name = 'a';
INSERT INTO alpha.tq_schedule
SELECT (jsonb_populate_record(s, jsonb_build_object('name', kind || n, 'id', gen_random_uuid()))).*
  FROM alpha.tq_schedule s, generate_series(1, 250) n, unnest('{claim,zclaim}'::text[]) kind WHERE name = 'd001';
-- A name longer than any of a schedule
INSERT INTO alpha.tq_schedule
SELECT (jsonb_populate_record(s, jsonb_build_object('name', repeat('long', 500)))).* FROM alpha.tq_schedule s WHERE name = 'd001';
DELETE FROM alpha.tq_schedule WHERE name IN ('d001', 'd115', 'd230');
SELECT left(name, 1) AS first, count(*) FROM alpha.tq_schedule GROUP BY 1 ORDER BY 1;
RESET ROLE;
SELECT tq_set_tenant('alpha', ready => true);
SELECT test.await('(SELECT NOT EXISTS (SELECT FROM tenant_q.fanout_tenant WHERE fanout = ''00000000-0000-0000-0000-000000000000''))');
SELECT left(name, 1) AS first, count(*) FROM alpha.tq_schedule GROUP BY 1 ORDER BY 1;
SELECT count(*), count(DISTINCT options #> '{all,id}') AS definitions FROM alpha.tq_schedule WHERE options ? 'all';

-- One that is too large to be read for all is the tenant's problem
UPDATE alpha.tq_schedule SET args = to_jsonb(repeat('x', 7000000)) WHERE name = 'd010';
SELECT count(tq_schedule_all(name, 'note', '@monthly', '["y"]', on_conflict => 'replace')) FROM unnest('{d010,d011}'::text[]) name;
SELECT test.await('(SELECT count(*) = 3 FROM (SELECT * FROM alpha.tq_schedule UNION ALL SELECT * FROM beta.tq_schedule) x WHERE rule = ''@monthly'')');
SELECT what, reason, fix FROM tq_problems WHERE what LIKE 'schedule %';
SELECT fix FROM tq_problems WHERE what = 'schedule d010 of tenant alpha' \gexec
SELECT tq_set_tenant('alpha', ready => true);
SELECT test.await('(SELECT rule = ''@monthly'' FROM alpha.tq_schedule WHERE name = ''d010'')');
SELECT what, reason, fix FROM tq_problems WHERE what LIKE 'schedule %';
