//! Whether limits that somebody gives make sense.

use crate::postgres::error::{Error, Result};
use crate::pure::rate::{Algorithm, Rate};

/// max_running and rate as several calls take them.
pub fn check_limits(max_running: Option<i32>, rate: Option<&str>) -> Result<()> {
    if let Some(n) = max_running.filter(|n| *n < 1) {
        return Err(Error::invalid(format!("max_running is {n}")).hint("It is at least 1; to let nothing run, use tq_pause."));
    }
    if let Some(Err(why)) = rate.map(|r| Rate::parse(r, Algorithm::Bucket)) {
        let same = rate.and_then(Rate::in_whole_numbers).map(|same| format!("Write it in whole numbers: '{same}'."));
        return Err(Error::invalid(why).hint(same.unwrap_or_else(|| {
            "Write how many may start in how long, as in '100/h', and perhaps how that is counted: '100/h window'.".into()
        })));
    }
    Ok(())
}
