//! What one attempt does to the executor that runs it, and what is done to both: errors that say what they are not,
//! signals, clocks, a postmaster that is gone, no room on the disk.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use cluster::{Stop, wait_for};

use crate::site::{DB, Site};

/// Waits until the task has failed for good; its attempts' outcomes and its SQLSTATE.
fn failed(site: &Site, tenant: &str, id: &str) -> (String, String) {
    site.wait_ended(tenant, id, 'f');
    (outcomes(site, tenant, id), site.value(tenant, &format!("SELECT error ->> 'sqlstate' FROM {tenant}.tq_result WHERE id = '{id}'")))
}

fn outcomes(site: &Site, tenant: &str, id: &str) -> String {
    site.value(tenant, &format!("SELECT string_agg(outcome, ' ') FROM tq_attempts('{id}')"))
}

const RAISING: &str = "
    CREATE FUNCTION raising(code text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM ok(code); RAISE EXCEPTION 'not what it says' USING ERRCODE = code; END $$;
    SELECT tq_register('raising', max_attempts => 2, retry => tq_backoff('fixed', '0 seconds'))";

#[test]
fn an_error_with_anybody_s_sqlstate_is_the_handler_s_own() {
    let site = Site::start("", &["t1"]);
    site.run("t1", RAISING);
    // Cancelled, shut down, locks, conflicts; the engine's own words; what it tells about itself.
    let codes = [
        "57014", "57P01", "55P03", "40P01", "40001", "TQF00", "TQF01", "TQF03", "TQ001", "TQ003", "TQ005", "TQ006", "42883", "55000",
        "42P01", "XX000",
    ];
    let ids: Vec<_> = codes.iter().map(|code| (code, site.enqueue("t1", "raising", &format!(r#"["{code}"]"#), ""))).collect();
    for (code, id) in &ids {
        assert_eq!(failed(&site, "t1", id), ("failed failed".into(), code.to_string()));
        assert_eq!(site.counts("t1", id), (2, 0));
        assert_eq!(site.number(&format!("SELECT count(*) FROM tq_failures WHERE id = '{id}' AND sqlstate = '{code}'")), 2);
    }
    // What the handler left to the end of its transaction is its own as well.
    site.run(
        "t1",
        "CREATE TABLE later (code text); CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'late' USING ERRCODE = NEW.code; END $$;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
         CREATE FUNCTION deferring(code text) RETURNS void LANGUAGE sql AS $$ INSERT INTO later VALUES (code) $$;
         SELECT tq_register('deferring', max_attempts => 1)",
    );
    for code in ["57014", "55P03", "TQF03"] {
        let id = site.enqueue("t1", "deferring", &format!(r#"["{code}"]"#), "");
        assert_eq!(failed(&site, "t1", &id), ("failed".into(), code.to_string()));
    }
    site.assert_once(0);
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}

#[test]
fn a_lock_that_was_waited_for_in_vain_is_no_cancel() {
    let site = Site::start("", &["t1"]);
    site.run(
        "t1",
        "CREATE TABLE held (); CREATE FUNCTION waiting() RETURNS void LANGUAGE plpgsql SET lock_timeout = '20ms' AS
             $$ BEGIN BEGIN LOCK TABLE held; EXCEPTION WHEN lock_not_available THEN NULL; END;
                RAISE EXCEPTION 'elsewhere' USING ERRCODE = 'query_canceled'; END $$;
         SELECT tq_register('waiting', max_attempts => 1)",
    );
    let mut other = site.client("t1");
    other.batch_execute("BEGIN; LOCK TABLE held").expect("a lock");
    let id = site.enqueue("t1", "waiting", "[]", "");
    assert_eq!(failed(&site, "t1", &id), ("failed".into(), "57014".into()));
}

#[test]
fn an_error_with_anybody_s_sqlstate_is_the_handler_s_own_in_one_s_own_session_too() {
    let site = Site::start("", &["t1"]);
    site.run("t1", RAISING);
    site.run("t1", "SELECT tq_pause()");
    let codes = ["57014", "TQF00", "TQF01", "TQF03", "TQ001", "TQ003"];
    let ids: Vec<_> = codes.iter().map(|code| (code, site.enqueue("t1", "raising", &format!(r#"["{code}"]"#), ""))).collect();
    let drained = site.value("t1", "BEGIN; SELECT tq_resume(); SELECT count(*) FROM tq_drain(); COMMIT; SELECT count(*) FROM tq_results");
    assert_eq!(drained, codes.len().to_string());
    for (code, id) in &ids {
        assert_eq!(failed(&site, "t1", id), ("failed failed".into(), code.to_string()));
    }
    // Who is cancelled himself has that for an error, and nothing is said of the task.
    let id = site.enqueue("t1", "slow", r#"["cancelled", 600]"#, ", delay => '1 hour'");
    let error = (site.cluster)
        .try_run_as("t1", DB, "SET statement_timeout = '300ms'; SELECT tq_drain(as_of => now() + interval '2 hours')")
        .expect_err("it takes longer");
    assert_eq!(error.code, "57014");
    assert_eq!(site.counts("t1", &id), (0, 0));
    site.assert_once(0);
}

#[test]
fn attempts_that_are_always_interrupted_come_to_an_end_and_are_shown_from_the_first_on() {
    let site = Site::start("", &["t1"]);
    site.run(
        "t1",
        "CREATE FUNCTION suicidal() RETURNS void LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(600); END $$;
         SELECT tq_register('suicidal', max_attempts => 1)",
    );
    let id = site.enqueue("t1", "suicidal", "[]", "");
    let shown = |question: &str| site.cluster.wait_until(DB, &format!("SET search_path = t1, public; SELECT EXISTS ({question})"));
    shown(&format!("SELECT FROM tq_attempts('{id}') WHERE attempt = 1 AND outcome = 'interrupted' AND sqlstate = '57014'"));
    shown(&format!("SELECT FROM tq_why('{id}') WHERE reason = 'interrupted'"));
    shown(&format!("SELECT FROM tq_failures WHERE id = '{id}'"));
    shown(&format!("SELECT FROM tq_problems WHERE what LIKE '%{id}%' AND reason LIKE '%interrupted%'"));
    assert!(site.cluster.log_contains(&format!("{id} was interrupted at attempt 1")), "in the log");
    assert_eq!(failed(&site, "t1", &id), ("interrupted interrupted".into(), "57014".into()));
    assert_eq!(site.counts("t1", &id), (1, 0));
    let id = site.enqueue("t1", "suicidal", "[]", "");
    let is_it = format!("what LIKE '%{id}%' AND reason LIKE '%interrupted%'");
    shown(&format!("SELECT FROM tq_problems WHERE {is_it}"));
    site.cluster.mend(DB, &is_it);
    site.wait_ended("t1", &id, 'c');

    // One that is cancelled by mistake, or whose executor has to go, costs nothing, and is shown all the same.
    let id = site.enqueue("t1", "gate", r#"["a"]"#, "");
    for (nth, call) in ["pg_cancel_backend", "pg_terminate_backend"].into_iter().enumerate() {
        let since = site.cluster.value(DB, "SELECT clock_timestamp()");
        let pid = site.wait_running(&id);
        site.value("postgres", &format!("SELECT {call}({pid})"));
        site.cluster.wait_until_within(
            Duration::from_secs(10),
            DB,
            &format!("SELECT EXISTS (SELECT FROM tq_running WHERE id = '{id}' AND since > '{since}')"),
        );
        shown(&format!("SELECT FROM tq_why('{id}') WHERE reason = 'interrupted' OFFSET {nth}"));
        assert_eq!(outcomes(&site, "t1", &id), ["interrupted"].repeat(nth + 1).join(" "));
    }
    site.open_gate();
    site.wait_ended("t1", &id, 'd');
    assert_eq!(site.counts("t1", &id), (1, 0));
    assert_eq!(outcomes(&site, "t1", &id), "interrupted done");
    site.assert_once(1);
    site.cluster.assert_log_clean();
}

/// kill -9 of the postmaster; how long its workers outlive it is bounded, and the server starts again.
fn lose_postmaster(site: &Site) {
    let workers: Vec<i32> = (site.cluster.rows(DB, "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'tenant_q%'").iter())
        .map(|row| row.get(0).parse().expect("a pid"))
        .collect();
    assert!(workers.len() >= 2, "the launcher and executors");
    let postmaster = site.cluster.postmaster().expect("it runs");
    cluster::kill9(postmaster);
    wait_for("the workers to be gone", Duration::from_secs(5), || !workers.iter().any(|pid| cluster::process_exists(*pid)));
    wait_for("the server to start", Duration::from_secs(10), || site.cluster.try_server_start().is_ok());
}

#[test]
fn workers_do_not_outlive_the_postmaster() {
    let site = Site::start("", &["t1", "t2", "t3"]);
    // One in the middle of a handler that looks at nothing but itself.
    site.run("t2", "CREATE FUNCTION busy() RETURNS void LANGUAGE plpgsql AS 'BEGIN LOOP END LOOP; END'; SELECT tq_register('busy')");
    let busy = site.enqueue("t2", "busy", "[]", "");
    site.wait_running(&busy);
    site.run("t3", "SELECT tq_schedule('each', 'ok', '1 second', args => '[\"tick\"]', overlap => 'allow')");
    site.run("t1", "SELECT count(tq_async('ok', jsonb_build_array(n::text))) FROM generate_series(1, 20000) AS n");
    site.cluster.wait_until(DB, "SELECT count(*) > 100 FROM t1.tq_result");
    lose_postmaster(&site);
    site.wait_running(&busy);
    assert_eq!(site.counts("t2", &busy), (0, 0), "nobody's fault");
    assert_eq!(site.value("t2", &format!("SELECT tq_cancel('{busy}')")), "t");
    site.run("t3", "SELECT tq_unschedule('each')");
    site.wait_idle(&["t1", "t3"]);
    assert_eq!(
        site.number("SELECT count(*) FROM t1.tq_result WHERE state = 'd' AND attempts = 1 AND crashes = 0 AND history IS NULL"),
        20_000
    );
    assert_eq!(site.number("SELECT count(*) - count(DISTINCT k) FROM fx WHERE tenant = 't1'"), 0, "effects twice");
    assert_eq!(site.number("SELECT count(DISTINCT k) FROM fx WHERE tenant = 't1'"), 20_000);
}

/// Without the postmaster there is no connecting any more, so such tasks fail all at once: not by their own fault.
#[test]
fn what_fails_because_the_postmaster_is_gone_counts_for_nothing() {
    let site = Site::start("", &["t1"]);
    let (program, socket) = (cluster::pg_bin().join("pg_isready"), site.cluster.socket().display());
    site.cluster.run(
        DB,
        &format!(
            "CREATE TABLE public.answer (line text);
             CREATE FUNCTION public.asking(k text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
                 $$ BEGIN COPY public.answer FROM PROGRAM '{} -q -h {socket}'; END $$",
            program.display()
        ),
    );
    site.run("t1", "SELECT tq_register('asking', max_attempts => 1)");
    site.run("t1", "SELECT count(tq_async('asking', jsonb_build_array(n::text))) FROM generate_series(1, 400) AS n");
    site.cluster.wait_until(DB, "SELECT count(*) > 20 FROM t1.tq_result");
    lose_postmaster(&site);
    site.wait_idle(&["t1"]);
    assert_eq!(site.number("SELECT count(*) FROM t1.tq_result WHERE state = 'd' AND attempts = 1 AND crashes = 0"), 400);
}

/// Told to go while its commit waits for a standby that isn't there, an executor has answered by the time it would sleep.
#[test]
fn a_stop_during_a_wait_for_a_standby_is_soon_over() {
    let site = Site::start("synchronous_standby_names = 'nobody'\nsynchronous_commit = local\n", &["t1"]);
    site.run(
        "t1",
        "CREATE FUNCTION sure() RETURNS void LANGUAGE sql AS $$ SELECT ok('sure') $$;
         SELECT tq_register('sure', settings => '{\"synchronous_commit\": \"remote_apply\"}')",
    );
    let id = site.enqueue("t1", "sure", "[]", "");
    site.cluster
        .wait_until(DB, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'tenant_q executor')");
    let began = Instant::now();
    site.cluster.stop(Stop::Fast);
    assert!(began.elapsed() < Duration::from_secs(8), "a fast stop took {:?}", began.elapsed());
    site.cluster.append_settings("synchronous_standby_names = ''");
    site.cluster.server_start();
    site.wait_ended("t1", &id, 'd');
    site.assert_once(1);
    // The same of one that is told to go alone.
    site.cluster.append_settings("synchronous_standby_names = 'nobody'");
    site.cluster.reload();
    site.enqueue("t1", "sure", "[]", "");
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'tenant_q executor'";
    site.cluster.wait_until(DB, &format!("SELECT EXISTS ({waiting})"));
    let pid: i32 = site.cluster.value(DB, waiting).parse().expect("a pid");
    cluster::kill(pid, libc::SIGTERM);
    wait_for("the executor to be gone", Duration::from_secs(5), || !cluster::process_exists(pid));
}

/// 2030-06-01 00:00 UTC.
const START: i64 = 1_906_502_400;

#[test]
fn a_timeout_counts_real_time_whatever_is_done_to_the_clock() {
    let site = Site::start_at(START, &["t1"]);
    site.run(
        "t1",
        "CREATE FUNCTION swallow(k text) RETURNS void LANGUAGE plpgsql AS
             $$ BEGIN PERFORM ok(k); LOOP BEGIN LOOP END LOOP; EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
         CREATE FUNCTION watch(k text) RETURNS void LANGUAGE plpgsql AS
             $$ BEGIN PERFORM ok(k); WHILE NOT EXISTS (SELECT FROM public.gate) LOOP END LOOP; END $$;
         SELECT tq_register(h) FROM unnest('{swallow,watch}'::text[]) AS h",
    );
    let rest = ", timeout => '1.5 seconds', max_attempts => 1";
    let plain = site.enqueue("t1", "slow", r#"["plain", 600]"#, rest);
    let stubborn = site.enqueue("t1", "swallow", r#"["stubborn"]"#, rest);
    let patient = site.enqueue("t1", "watch", r#"["patient"]"#, ", timeout => '10 minutes'");
    for id in [&plain, &stubborn, &patient] {
        site.wait_running(id);
    }
    site.cluster.clock().set(START - 3_600, 1);
    for (id, bound) in [(&plain, 8), (&stubborn, 15)] {
        site.cluster.wait_until_within(
            Duration::from_secs(bound),
            DB,
            &format!("SELECT EXISTS (SELECT FROM t1.tq_result WHERE id = '{id}' AND state = 'f')"),
        );
        assert_eq!(outcomes(&site, "t1", id), "timeout");
        let message = site.value("t1", &format!("SELECT error ->> 'message' FROM t1.tq_result WHERE id = '{id}'"));
        assert!(message.contains("timeout of 1500 ms"), "{message}");
    }
    // Set forward, beyond its timeout: it has had none of that time. Another one's timeout rings the bell.
    site.cluster.clock().set(START + 3_600, 1);
    let other = site.enqueue("t1", "slow", r#"["other", 600]"#, ", timeout => '0.2 seconds', max_attempts => 1");
    site.wait_ended("t1", &other, 'f');
    site.open_gate();
    site.wait_ended("t1", &patient, 'd');
    assert_eq!(site.counts("t1", &patient), (1, 0));
    site.assert_once(1);
    site.cluster.assert_log_clean();
}

/// A file system of its own for what the server keeps in memory and on the disk at once; gone when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// None: nobody may mount anything here.
    fn mount(at: std::path::PathBuf, size: &str) -> Option<SmallDisk> {
        let owner = std::fs::metadata(&at).expect("a directory");
        let options = format!("size={size},uid={},gid={},mode=0700", owner.uid(), owner.gid());
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output().expect("mount");
        mounted.status.success().then_some(SmallDisk(at))
    }

    fn resize(&self, size: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0).status().expect("mount");
        assert!(done.success());
    }

    /// Until there is no room at all.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).expect("a file");
        while file.write_all(&[7; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn without_room_for_its_file_a_server_does_not_start_and_what_it_has_reserved_is_its_own() {
    let mut site = Site::start("", &["t1"]);
    site.cluster.stop(Stop::Fast);
    let Some(disk) = SmallDisk::mount(site.cluster.data().join("pg_stat_tmp"), "64k") else {
        return eprintln!("not tried: mounting is not permitted here");
    };
    site.cluster.forget_log();
    assert!(site.cluster.try_server_start().is_err(), "it starts without room");
    let log = site.cluster.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("FATAL")).collect();
    assert!(lines.len() == 1 && lines[0].contains("could not reserve") && lines[0].contains("pg_stat_tmp/tenant_q.slots"), "{log}");
    assert!(log.contains("No space left on device") && log.contains("HINT:  Make room there"), "{log}");
    site.cluster.assert_log_clean();
    // It fills up later: what is stored into has its room.
    disk.resize("4m");
    site.cluster.server_start();
    disk.fill();
    site.run("t1", "SELECT count(tq_async('ok', jsonb_build_array(n::text))) FROM generate_series(1, 500) AS n");
    site.wait_idle(&["t1"]);
    site.assert_once(500);
    site.cluster.restart(Stop::Immediate);
    site.assert_alive("t1");
    site.cluster.assert_log_clean();
}
