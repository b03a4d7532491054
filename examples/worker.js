// A worker in Node:  npm install pg && PGUSER=worker node worker.js tasks.js
//
// The functions that tasks.js exports are what it offers to do. Each gets the client, in whose transaction its task ends, with the
// tenant's schema first on search_path, and the task's arguments, an object; what it returns is the result.
const path = require("node:path");
const { Client } = require("pg");

const functions = require(path.resolve(process.argv[2]));
const offered = Object.keys(functions);
const taker = new Client(); // its end is the end of what it has taken: behind no pooler
const work = new Client();
let stopping = false;
let running = null; // the claim of the task at hand
const unwanted = new Set(); // claims of tasks that go back unless they have begun
// TQ007: the claim is gone, the task isn't ours any more, and nothing of it stands.
const end = (call, values) => work.query(`SELECT ${call}`, values).catch((error) => { if (error.code !== "TQ007") throw error; });

async function run({ claim, tenant, handler, args, each }) {
  running = claim;
  const call = async (one) => (await functions[handler](work, one)) ?? null;
  try {
    await work.query("BEGIN");
    await work.query("SELECT set_config('search_path', quote_ident($1) || ', public', true)", [tenant]);
    const results = [];
    for (const one of each ? args : [args]) results.push(await call(one));
    await work.query("SELECT tq_finish($1, $2)", [claim, JSON.stringify(each ? results : results[0])]);
    await work.query("COMMIT");
  } catch (error) {
    await work.query("ROLLBACK");
    const failure = { message: error.message, class: error.constructor.name, traceback: error.stack };
    await end("tq_give_up($1, $2)", [claim, JSON.stringify(failure)]);
  }
}

async function cancel(client) {
  const other = new Client();
  await other.connect();
  await other.query("SELECT pg_cancel_backend($1)", [client.processID]);
  await other.end();
}

// Says that we live, and hears what is to be given up. Queries of one client wait for each other.
async function watch() {
  const { rows } = await taker.query("SELECT claim, what FROM tq_watch()");
  for (const { claim, what } of rows) {
    if (!claim) stopping = true; // drain: all are to begin anew (tq_recycle); whoever has started us does so again
    else if (claim !== running) unwanted.add(claim);
    else if (what === "cancel" || what === "timeout") await cancel(work);
  }
}

async function main() {
  await Promise.all([taker.connect(), work.connect()]);
  process.on("SIGTERM", () => { stopping = true; cancel(taker); }); // it may be waiting
  setInterval(() => watch().catch((error) => error.code === "57014" || process.exit(1)), 5000);
  while (!stopping) {
    try {
      const { rows } = await taker.query("SELECT * FROM tq_take(4, handlers => $1, worker => 'worker.js')", [offered]);
      for (const task of rows) await (stopping || unwanted.has(task.claim) ? end("tq_release($1)", [task.claim]) : run(task));
      if (!rows.length) {
        await taker.query("CALL tq_await('20 seconds', handlers => $1)", [offered]);
        await watch();
      }
    } catch (error) {
      if (error.code !== "57014") throw error;
    }
  }
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
