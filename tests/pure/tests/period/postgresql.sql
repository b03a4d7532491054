-- Prints what PostgreSQL makes of instants plus intervals: postgresql.tsv, which mod.rs compares with.
--
--     psql -X -q -A -t -F "$(printf '\t')" -f postgresql.sql > postgresql.tsv
--
-- A line each: zone, microseconds since 2000, months, days, microseconds, and when that is. Around changes of clocks, ends of
-- months and leap days.
CREATE FUNCTION pg_temp.micros(t timestamptz) RETURNS numeric LANGUAGE sql AS $$ SELECT trunc((extract(epoch FROM t) - 946684800) * 1000000) $$;
CREATE FUNCTION pg_temp.added(zone text, local timestamp, length interval) RETURNS numeric[] LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('TimeZone', zone, true);
    RETURN ARRAY[pg_temp.micros(local::timestamptz), pg_temp.micros(local::timestamptz + length)];
END $$;
SELECT zone, x[1], extract(year FROM l)::int * 12 + extract(month FROM l)::int, extract(day FROM l)::int,
       (extract(epoch FROM l - date_trunc('day', l)) * 1000000)::bigint, x[2]
  FROM unnest('{UTC,Europe/Berlin,America/New_York,Australia/Lord_Howe,Asia/Kathmandu,America/Sao_Paulo,Pacific/Apia}'::text[]) zone,
       unnest('{2019-01-31 12:00:00.123456,2020-01-31 02:30,2020-02-29 00:00,2019-03-30 02:30,2019-03-10 01:59:59,2019-10-26 02:30,2019-10-27 02:30,2019-11-02 01:30,2019-11-03 01:30,2019-10-05 02:15,2018-11-03 00:30,2011-12-29 10:00,2019-12-31 23:59:59.999999,1999-05-31 08:00,1969-07-20 20:17:40.5,2024-02-29 23:30}'::timestamp[]) local,
       unnest('{1 month,-1 month,1 year,-1 year,4 years,1 day,-1 day,2 days,365 days,1 month 1 day,13 months -30 days,-5 months 10 days 01:30:00.000001,24 hours,-00:00:01,0,60 years}'::interval[]) l,
       pg_temp.added(zone, local, l) x
 ORDER BY zone, local, l;
