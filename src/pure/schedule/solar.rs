//! Solar events: sunrise, sunset, noon and the twilights at a place, computed as NOAA does.
//!
//! Contract: `<event> at <latitude>,<longitude>` in degrees, north and east positive; the events are
//! Celery's. Accurate to about a minute between the polar circles, which is as well as refraction can be
//! known. An event that never happens in a whole year (`sunset at 90,0`) is refused when it is parsed;
//! one that pauses (polar night) is waited for.

use crate::pure::schedule::calendar::DAY;
use crate::pure::schedule::rule::RuleError;
use crate::pure::schedule::zone::shortened;

/// No event that happens at all pauses for longer than a polar night or day.
const DAYS_SEARCHED: i64 = 400;

/// Seconds the earth takes to turn by one degree.
const SECONDS_PER_DEGREE: f64 = 240.0;

/// 2000-01-01 12:00 UTC, from which astronomers count.
const J2000: f64 = 946_728_000.0;

/// An event and the place where it is observed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Solar {
    pub(super) event: &'static Event,
    pub(super) latitude: f64,
    pub(super) longitude: f64,
}

/// What the sun does: crosses an altitude in the morning or in the evening, or stands in the south.
#[derive(Debug, PartialEq)]
pub struct Event {
    pub(super) name: &'static str,
    /// Degrees above the horizon; sunrise and sunset count with refraction and the sun's upper edge.
    altitude: f64,
    half: Half,
}

#[derive(Debug, PartialEq)]
enum Half {
    Morning,
    Noon,
    Evening,
}

const EVENTS: &[Event] = &[
    Event { name: "dawn_astronomical", altitude: -18.0, half: Half::Morning },
    Event { name: "dawn_nautical", altitude: -12.0, half: Half::Morning },
    Event { name: "dawn_civil", altitude: -6.0, half: Half::Morning },
    Event { name: "sunrise", altitude: -0.833, half: Half::Morning },
    Event { name: "solar_noon", altitude: 90.0, half: Half::Noon },
    Event { name: "sunset", altitude: -0.833, half: Half::Evening },
    Event { name: "dusk_civil", altitude: -6.0, half: Half::Evening },
    Event { name: "dusk_nautical", altitude: -12.0, half: Half::Evening },
    Event { name: "dusk_astronomical", altitude: -18.0, half: Half::Evening },
];

/// Parses the text from `start`; `None` if it doesn't begin with a solar event.
pub fn parse(lower: &str, start: usize) -> Result<Option<Solar>, RuleError> {
    let text = lower[start..].trim_ascii_end();
    let name_length = text.find(|c: char| !c.is_ascii_alphabetic() && c != '_').unwrap_or(text.len());
    let (name, mut rest) = text.split_at(name_length);
    let prefix = name.split('_').next().unwrap_or_default();
    if !["dawn", "dusk", "sunrise", "sunset", "solar"].contains(&prefix) {
        return Ok(None);
    }
    let mut name = name.to_owned();
    // "solar noon", "dawn civil" in two words.
    let next_word = rest.split_ascii_whitespace().next().unwrap_or_default();
    if let Some(event) = EVENTS.iter().find(|event| event.name == format!("{name}_{next_word}")) {
        name = event.name.to_owned();
        rest = &rest[rest.find(next_word).unwrap_or(0) + next_word.len()..];
    }
    if name == "dawn" || name == "dusk" {
        name.push_str("_civil");
    }
    let position = |rest: &str| start + text.len() - rest.len();
    let Some(event) = EVENTS.iter().find(|event| event.name == name) else {
        let names: Vec<&str> = EVENTS.iter().map(|event| event.name).collect();
        return Err(RuleError::rule(start, format!("\"{}\" is not a solar event", shortened(&name)))
            .hint(&format!("The events are {}.", names.join(", "))));
    };
    rest = rest.trim_ascii_start();
    let Some(place) = rest.strip_prefix("at").filter(|place| !place.starts_with(|c: char| c.is_alphabetic())) else {
        let message = format!("a place is missing after \"{}\"", event.name);
        return Err(RuleError::rule(position(rest), message).hint(PLACE));
    };
    let Some((latitude_text, longitude_text)) = place.split_once(',') else {
        return Err(RuleError::rule(position(place.trim_ascii_start()), "the longitude is missing".to_owned()).hint(PLACE));
    };
    let latitude_position = position(place.trim_ascii_start());
    let latitude = degrees(latitude_position, latitude_text, "latitude", 90.0)?;
    let longitude_position = position(longitude_text.trim_ascii_start());
    let longitude = degrees(longitude_position, longitude_text, "longitude", 180.0)?;
    let solar = Solar { event, latitude, longitude };
    if solar.next_after(J2000 as i64).is_none() {
        let message = format!("{} never happens at this place", event.name);
        return Err(RuleError::rule(latitude_position, message));
    }
    Ok(Some(solar))
}

const PLACE: &str = "Write the place as latitude,longitude in degrees: 'sunset at 52.5,13.4'.";

fn degrees(position: usize, text: &str, what: &str, limit: f64) -> Result<f64, RuleError> {
    let text = text.trim_ascii();
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b"+-.".contains(&b));
    let value = text.parse::<f64>().ok().filter(|_| plain).ok_or_else(|| {
        let message = format!("the {what} \"{}\" is not a number", shortened(text));
        RuleError::rule(position, message).hint(PLACE)
    })?;
    if value.abs() > limit {
        return Err(RuleError::rule(position, format!("{what} {text} is out of range (-{limit} to {limit})")));
    }
    Ok(value)
}

impl Solar {
    /// The first event after `after`, in whole seconds since 1970 UTC.
    pub(super) fn next_after(&self, after: i64) -> Option<i64> {
        // Days are counted by the place's mean sun, so that each has one noon and at most one of each event.
        let mean_sun = after + (self.longitude * SECONDS_PER_DEGREE) as i64;
        let first_day = mean_sun.div_euclid(DAY) - 1;
        (first_day..first_day + DAYS_SEARCHED).filter_map(|day| self.on_day(day)).find(|instant| *instant > after)
    }

    /// When the event happens on a day, if it does.
    fn on_day(&self, day: i64) -> Option<i64> {
        let mean_noon = (day * DAY + DAY / 2) as f64 - self.longitude * SECONDS_PER_DEGREE;
        let mut instant = mean_noon;
        // Declination and equation of time change while the sun moves to the event: three rounds settle
        // it to the second outside the polar circles.
        for _ in 0..3 {
            let sun = Sun::at(instant);
            let noon = mean_noon - sun.equation_of_time;
            instant = match self.event.half {
                Half::Noon => noon,
                Half::Morning => noon - self.hour_angle(&sun)? * SECONDS_PER_DEGREE,
                Half::Evening => noon + self.hour_angle(&sun)? * SECONDS_PER_DEGREE,
            };
        }
        Some(instant.round() as i64)
    }

    /// Degrees the earth turns between noon and the event; none if the sun doesn't cross that altitude.
    fn hour_angle(&self, sun: &Sun) -> Option<f64> {
        let latitude = self.latitude.to_radians();
        let height = self.event.altitude.to_radians().sin() - latitude.sin() * sun.declination.sin();
        let cosine = height / (latitude.cos() * sun.declination.cos());
        (-1.0..=1.0).contains(&cosine).then(|| cosine.acos().to_degrees())
    }
}

/// Where the sun stands at an instant, after Meeus in the form NOAA publishes.
struct Sun {
    /// Radians.
    declination: f64,
    /// Seconds by which the true sun is ahead of the mean one.
    equation_of_time: f64,
}

impl Sun {
    fn at(instant: f64) -> Sun {
        let century = (instant - J2000) / 86_400.0 / 36_525.0;
        let mean_longitude = (280.466_46 + century * (36_000.769_83 + century * 0.000_303_2)).rem_euclid(360.0).to_radians();
        let anomaly = (357.529_11 + century * (35_999.050_29 - century * 0.000_153_7)).to_radians();
        let eccentricity = 0.016_708_634 - century * (0.000_042_037 + century * 0.000_000_126_7);
        let center = anomaly.sin() * (1.914_602 - century * (0.004_817 + century * 0.000_014))
            + (2.0 * anomaly).sin() * (0.019_993 - century * 0.000_101)
            + (3.0 * anomaly).sin() * 0.000_289;
        let node = (125.04 - 1_934.136 * century).to_radians();
        let apparent_longitude = mean_longitude + (center - 0.005_69 - 0.004_78 * node.sin()).to_radians();
        let mean_obliquity = 23.439_291 - century * (0.013_004_2 + century * 0.000_000_164);
        let obliquity = (mean_obliquity + 0.002_56 * node.cos()).to_radians();
        let declination = (obliquity.sin() * apparent_longitude.sin()).asin();
        let y = (obliquity / 2.0).tan().powi(2);
        let equation = y * (2.0 * mean_longitude).sin() - 2.0 * eccentricity * anomaly.sin()
            + 4.0 * eccentricity * y * anomaly.sin() * (2.0 * mean_longitude).cos()
            - 0.5 * y * y * (4.0 * mean_longitude).sin()
            - 1.25 * eccentricity * eccentricity * (2.0 * anomaly).sin();
        Sun { declination, equation_of_time: equation.to_degrees() * SECONDS_PER_DEGREE }
    }
}
