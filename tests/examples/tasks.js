// What the tests have examples/worker.js do.
exports.pay = async (client, { invoice, seconds = 0 }) => {
  await client.query("INSERT INTO paid (invoice, pid) VALUES ($1, pg_backend_pid())", [invoice]);
  await new Promise((done) => setTimeout(done, 1000 * seconds));
  return { paid: invoice };
};

exports.refuse = async (client, { why }) => {
  await client.query("INSERT INTO paid (invoice) VALUES (0)");
  throw new RangeError(why);
};
