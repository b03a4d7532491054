//! The server starts with the extension preloaded, and a database can have it.

use cluster::{Cluster, Stop};

#[test]
fn preloaded_server_starts_and_the_extension_installs() {
    let cluster = Cluster::start("");
    assert!(
        cluster
            .value("postgres", "SHOW shared_preload_libraries")
            .contains("tenant_q")
    );
    cluster.run("postgres", "CREATE EXTENSION tenant_q");
    assert_eq!(cluster.value("postgres", "SELECT 1"), "1");
    assert_eq!(
        cluster.number(
            "postgres",
            "SELECT count(*) FROM pg_extension WHERE extname = 'tenant_q'"
        ),
        1
    );

    cluster.restart(Stop::Fast);
    assert_eq!(cluster.value("postgres", "SELECT 1"), "1");
    cluster.assert_log_clean();
}
