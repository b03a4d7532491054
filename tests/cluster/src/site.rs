//! A server whose database `postgres` has the extension and some tenants, with handlers that leave a trace.
//!
//! Every tenant is a schema owned by a role of its name, which may log in and has the schema first on its search_path.
//! Handlers, the same for all tenants, registered as
//! - `ok(k)`: the effect, one row of `public.fx`;
//! - `slow(k, s)`: the effect, then `s` seconds of sleep;
//! - `gate(k)`: the effect, then waits until [`Site::open_gate`];
//! - `bad(k)`: the effect, then an error;
//! - `boom(k)`: the effect, then kill -9 of its own process: tenants made by [`Site::tenants`] may not, [`Site::allow_boom`].

use std::time::Duration;

use crate::{Client, Cluster};

pub const DB: &str = "postgres";

pub struct Site {
    pub cluster: Cluster,
}

/// Four executors, whatever the machine; fast sweeps are a test's own business.
const CONF: &str = "tenant_q.max_executors = 4\n";

const COMMON: &str = "
    CREATE EXTENSION tenant_q;
    CREATE TABLE public.fx (tenant text, k text, who text DEFAULT current_user, sess text DEFAULT session_user,
        su text DEFAULT current_setting('is_superuser'), path text DEFAULT current_setting('search_path'),
        pid integer DEFAULT pg_backend_pid(), at timestamptz DEFAULT clock_timestamp());
    CREATE TABLE public.gate (opened boolean);
    GRANT INSERT, SELECT ON public.fx, public.gate TO PUBLIC;
    CREATE FUNCTION public.ok(k text) RETURNS void LANGUAGE sql AS
        $$ INSERT INTO public.fx (tenant, k) VALUES (current_schema(), k) $$;
    CREATE FUNCTION public.slow(k text, s float8) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.ok(k); PERFORM pg_sleep(s); END $$;
    CREATE FUNCTION public.gate(k text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.ok(k);
           WHILE NOT EXISTS (SELECT FROM public.gate) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$;
    CREATE FUNCTION public.bad(k text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.ok(k); RAISE EXCEPTION 'bad %', k; END $$;
    CREATE FUNCTION public.boom(k text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.ok(k);
           EXECUTE format('COPY (SELECT 1) TO PROGRAM ''kill -9 %s''', pg_backend_pid()); PERFORM pg_sleep(600); END $$;";

impl Site {
    pub fn start(extra_conf: &str, tenants: &[&str]) -> Site {
        Site::on(Cluster::start(&format!("{CONF}{extra_conf}")), tenants)
    }

    /// A server whose clock shows another time, in seconds since 1970.
    pub fn start_at(at: i64, tenants: &[&str]) -> Site {
        Site::on(Cluster::start_at(at, CONF), tenants)
    }

    fn on(cluster: Cluster, tenants: &[&str]) -> Site {
        let site = Site { cluster };
        site.cluster.run(DB, COMMON);
        site.tenants(tenants);
        site
    }

    pub fn tenants(&self, tenants: &[&str]) {
        for t in tenants {
            self.cluster.run(
                DB,
                &format!("CREATE ROLE {t} LOGIN; CREATE SCHEMA {t} AUTHORIZATION {t}; ALTER ROLE {t} SET search_path = {t}, public"),
            );
            self.cluster.run_as(t, DB, "SELECT tq_attach(); SELECT tq_register(h) FROM unnest('{ok,slow,gate,bad,boom}'::text[]) AS h");
        }
    }

    pub fn allow_boom(&self, tenant: &str) {
        self.cluster.run(DB, &format!("GRANT pg_execute_server_program TO {tenant}"));
    }

    /// Runs SQL as the tenant.
    pub fn run(&self, tenant: &str, sql: &str) {
        self.cluster.run_as(tenant, DB, sql);
    }

    /// The only value of the last statement, as the tenant.
    pub fn value(&self, tenant: &str, sql: &str) -> String {
        self.cluster.value_as(tenant, DB, sql)
    }

    /// As the superuser.
    pub fn number(&self, sql: &str) -> i64 {
        self.cluster.number(DB, sql)
    }

    /// Enqueues a call; `rest` is further arguments of tq_async, e.g. `", priority => 2"`. Returns the task's id.
    pub fn enqueue(&self, tenant: &str, handler: &str, args: &str, rest: &str) -> String {
        self.value(tenant, &format!("SELECT tq_async('{handler}', '{args}'{rest})"))
    }

    /// Lets all `gate` tasks end, those to come too.
    pub fn open_gate(&self) {
        self.cluster.run(DB, "INSERT INTO public.gate VALUES (true)");
    }

    pub fn client(&self, tenant: &str) -> Client {
        self.cluster.client(tenant, DB)
    }

    /// Waits until the task runs; the process that runs it.
    pub fn wait_running(&self, id: &str) -> i32 {
        self.cluster.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM tq_running WHERE id = '{id}')"));
        self.running(id).expect("it stays where it is")
    }

    pub fn running(&self, id: &str) -> Option<i32> {
        let rows = self.cluster.rows(DB, &format!("SELECT pid FROM tq_running WHERE id = '{id}'"));
        rows.first().map(|row| row.get(0).parse().expect("a pid"))
    }

    /// Waits until the task is in the tenant's results, in the state of this letter.
    pub fn wait_ended(&self, tenant: &str, id: &str, state: char) {
        self.cluster.wait_until(DB, &format!("SELECT EXISTS (SELECT FROM {tenant}.tq_result WHERE id = '{id}')"));
        assert_eq!(
            self.cluster
                .value(DB, &format!("SELECT concat_ws(' ', state, error) FROM {tenant}.tq_result WHERE id = '{id}'"))
                .chars()
                .next(),
            Some(state),
            "{}",
            self.cluster.value(DB, &format!("SELECT r FROM {tenant}.tq_result r WHERE id = '{id}'"))
        );
    }

    /// Waits until these tenants have no unfinished tasks.
    pub fn wait_idle(&self, tenants: &[&str]) {
        self.wait_idle_within(crate::PATIENCE, tenants);
    }

    /// No unfinished task is there; links of those that were cancelled for others may be.
    pub fn wait_idle_within(&self, bound: Duration, tenants: &[&str]) {
        for t in tenants {
            self.cluster.wait_until_within(bound, DB, &format!("SELECT NOT EXISTS (SELECT FROM {t}.tq_task WHERE state <> 'l')"));
        }
    }

    /// A finished or unfinished task's counters: (attempts, crashes).
    pub fn counts(&self, tenant: &str, id: &str) -> (i64, i64) {
        let rows = self.cluster.rows(
            DB,
            &format!(
                "SELECT attempts, crashes FROM {tenant}.tq_result WHERE id = '{id}' UNION ALL \
                 SELECT attempts, crashes FROM {tenant}.tq_task WHERE id = '{id}'"
            ),
        );
        assert_eq!(rows.len(), 1, "task {id} is in one place");
        (rows[0].get(0).parse().expect("a number"), rows[0].get(1).parse().expect("a number"))
    }

    /// The same of a finished one, whatever was left of it among the unfinished.
    pub fn counts_of_result(&self, tenant: &str, id: &str) -> (i64, i64) {
        let of = |column: &str| self.number(&format!("SELECT {column} FROM {tenant}.tq_result WHERE id = '{id}'"));
        (of("attempts"), of("crashes"))
    }

    /// No effect of `ok` and its kin happened twice; `n` did in all.
    pub fn assert_once(&self, n: i64) {
        assert_eq!(
            self.number("SELECT count(*) FROM (SELECT tenant, k FROM fx GROUP BY 1, 2 HAVING count(*) <> 1) AS x"),
            0,
            "effects twice"
        );
        assert_eq!(self.number("SELECT count(*) FROM fx"), n, "effects in all");
    }

    /// The engine still works: another task of this tenant runs to its end within 5 s.
    pub fn assert_alive(&self, tenant: &str) {
        let id = self.enqueue(tenant, "ok", r#"["alive"]"#, "");
        self.cluster.wait_until_within(
            Duration::from_secs(5),
            DB,
            &format!("SELECT EXISTS (SELECT FROM {tenant}.tq_result WHERE id = '{id}' AND state = 'd')"),
        );
        self.cluster.run(DB, "DELETE FROM fx WHERE k = 'alive'");
    }
}
