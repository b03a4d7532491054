//! What others install says of itself what Cargo.toml says: META.json for PGXN, the control file, the Debian package.

use serde_json::Value;
use std::path::{Path, PathBuf};

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What stands between the first `before` and the next `after`.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("there is no {before:?}"));
    rest.split_once(after).unwrap_or_else(|| panic!("there is no {after:?} behind {before:?}")).0
}

fn version() -> String {
    between(&text("Cargo.toml"), "\nversion = \"", "\"").to_owned()
}

fn meta() -> Value {
    serde_json::from_str(&text("META.json")).expect("META.json is JSON")
}

#[test]
fn every_package_is_of_the_version_of_cargo_toml() {
    let meta = meta();
    let says = [
        ("META.json", meta["version"].as_str().unwrap_or_default().to_owned()),
        ("META.json, provides", meta["provides"]["tenant_q"]["version"].as_str().unwrap_or_default().to_owned()),
        // cargo pgrx replaces it when it installs.
        ("tenant_q.control", between(&text("tenant_q.control"), "\ndefault_version = '", "'").replace("@CARGO_VERSION@", &version())),
        ("packaging/debian/changelog", between(&text("packaging/debian/changelog"), "tenant-q (", "-").to_owned()),
        ("CHANGELOG.md", between(&text("CHANGELOG.md"), "\n## [", "]").to_owned()),
    ];
    for (file, says) in says {
        assert_eq!(says, version(), "{file}");
    }
}

#[test]
fn meta_json_names_files_that_are_there() {
    let meta = meta();
    for which in ["file", "docfile"] {
        let file = meta["provides"]["tenant_q"][which].as_str().unwrap_or_default();
        assert!(!file.is_empty() && path(file).is_file(), "{which}: {file:?}");
    }
}

/// scripts/deb reads there what the package depends on.
#[test]
fn the_readme_has_a_minor_version_for_each_major() {
    let (readme, common) = (text("README.md"), text("scripts/common.sh"));
    let row = between(&readme, "\n| Minor version at least |", "\n");
    for major in between(&common, "\nmajors=(", ")").split(' ') {
        assert_eq!(row.matches(&format!(" {major}.")).count(), 1, "{major} in {row}");
    }
}
