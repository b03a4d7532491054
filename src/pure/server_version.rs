//! Which minor version of each PostgreSQL tenants need between them, at least.
//!
//! The engine keeps tenants apart by what the server keeps apart: roles. A server where any role may become the operating
//! system's user keeps nobody from anybody. README.md has the same table.

/// A release, and what it has mended.
pub struct Minimum {
    pub major: u32,
    pub minor: u32,
    pub mends: &'static str,
}

/// The oldest that this version has been tested with, or what came out with them.
pub const MINIMUMS: [Minimum; 4] = [
    Minimum { major: 15, minor: 18, mends: "CVE-2026-6473" },
    Minimum { major: 16, minor: 14, mends: "CVE-2026-6473" },
    Minimum { major: 17, minor: 10, mends: "CVE-2026-6473" },
    Minimum { major: 18, minor: 4, mends: "CVE-2026-6473" },
];

/// `server_version_num`: the major version, and four digits of the minor one.
pub struct ServerVersion {
    major: u32,
    minor: u32,
}

impl ServerVersion {
    /// None for a text that is no `server_version_num`.
    pub fn of(number: &str) -> Option<ServerVersion> {
        let number: u32 = number.parse().ok()?;
        Some(ServerVersion { major: number / 10_000, minor: number % 10_000 })
    }

    /// None for a major version that isn't known here.
    fn minimum(&self) -> Option<&'static Minimum> {
        MINIMUMS.iter().find(|minimum| minimum.major == self.major)
    }

    /// `15.20, at least 15.18 is needed`.
    pub fn text(&self) -> String {
        let needed = self.minimum().map(|least| format!(", at least {}.{} is needed", least.major, least.minor));
        format!("{}.{}{}", self.major, self.minor, needed.unwrap_or_default())
    }

    /// What comes of it, and what to do, where it is too old.
    pub fn complaint(&self) -> Option<(String, String)> {
        let least = self.minimum().filter(|least| self.minor < least.minor)?;
        Some((
            format!(
                "Any role may run code as the operating system's user of the server ({}): no tenant is safe from another.",
                least.mends
            ),
            format!("Update PostgreSQL to {}.{} or newer, best to the newest minor version, and restart it.", least.major, least.minor),
        ))
    }
}
