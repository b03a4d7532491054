//! In which zone a schedule's rule is meant, and whose name it is where that zone isn't known.

use crate::postgres::error::{Error, Result};
use crate::pure::schedule::zone::{parse_zone, shortened};
use crate::settings;
use crate::tenant::{self, Tenant};
use chrono_tz::Tz;

/// The zone `tz`, else the tenant's.
pub fn of(tenant: &Tenant, tz: Option<&str>) -> Result<Tz> {
    match (tz, &tenant.timezone) {
        (Some(tz), _) => Ok(parse_zone(tz)?),
        (None, Some(own)) => parse_zone(own).map_err(|_| {
            Error::invalid(format!("time zone \"{}\" of tenant \"{}\" is not known", shortened(own), tenant.name))
                .hint(format!("SELECT tq_set_tenant({}, timezone => 'Europe/Berlin').", pgrx::spi::quote_literal(&tenant.name)))
        }),
        (None, None) => default(),
    }
}

/// Where neither a schedule nor its tenant has one.
pub fn default() -> Result<Tz> {
    let name = tenant::default_zone();
    parse_zone(&name).map_err(|_| {
        let whose = if settings::timezone().is_empty() { "the server's TimeZone" } else { "setting tenant_q.timezone" };
        Error::invalid(format!("{whose} \"{}\" is not the name of a time zone", shortened(&name)))
            .detail("It is the zone of schedules that have no tz of their own, in tenants without a timezone.")
            .hint("Pass tz => 'Europe/Berlin', or set tenant_q.timezone to a name of the IANA database such as that.")
    })
}
