//! Every way of writing a rule wrongly: refused, with the place in the text.

use tenant_q_pure::schedule::rule::{MonthEnd, Rule};
use tenant_q_pure::schedule::zone::parse_zone;

/// The rule with `^` before the place the error must name.
const WRONG_RULES: &[(&str, &str)] = &[
    ("^", "rule is empty"),
    ("^   ", "rule is empty"),
    // Cron: how many fields.
    // After other schedules.
    ("after ^nightly", "unexpected \"nightly\", expected the end"),
    ("after ^5 minutes", "unexpected \"5\", expected the end"),
    ("after any ^nightly", "unexpected \"nightly\", expected the end"),
    ("^*", "a cron rule has 5 fields, or 6 with seconds first, not 1"),
    ("^* * * *", "a cron rule has 5 fields, or 6 with seconds first, not 4"),
    ("* * * * * * ^*", "a cron rule has 5 fields, or 6 with seconds first, not 7"),
    // Cron: what stands in a field.
    ("1,^,2 * * * *", "the minute field has an empty item"),
    ("^,1 * * * *", "the minute field has an empty item"),
    ("1,^ * * * *", "the minute field has an empty item"),
    ("*/^ * * * *", "the minute field has no step after \"/\""),
    ("*/^0 * * * *", "the minute field has a step of 0"),
    ("*/^x * * * *", "the minute field has the step \"x\", which is not a number"),
    ("^5x * * * *", "the minute field cannot contain \"5x\""),
    ("*/^90 * * * *", "the minute field has only 60 values, too few for a step of 90"),
    ("^/5 * * * *", "the minute field is missing a number"),
    ("^-20 * * * *", "the minute field is missing a number"),
    ("20-^ * * * *", "the minute field is missing a number"),
    ("1-^2-3 * * * *", "the minute field cannot contain \"2-3\""),
    ("^60 * * * *", "minute 60 is out of range (0 to 59)"),
    ("^99999999999999999999 * * * *", "minute 99999999999999999999 is out of range (0 to 59)"),
    ("0-^100 * * * *", "minute 100 is out of range (0 to 59)"),
    ("0 ^24 * * *", "hour 24 is out of range (0 to 23)"),
    ("0 0-^30 * * *", "hour 30 is out of range (0 to 23)"),
    ("0 ^? * * *", "the hour field cannot contain \"?\""),
    ("0 0 ^0 * *", "day-of-month 0 is out of range (1 to 31)"),
    ("0 0 ^32 * *", "day-of-month 32 is out of range (1 to 31)"),
    ("0 0 ^0-10 * *", "day-of-month 0 is out of range (1 to 31)"),
    ("0 0 31,^32 * *", "day-of-month 32 is out of range (1 to 31)"),
    ("0 0 l-^31 * *", "day-of-month 31 is out of range (0 to 30)"),
    ("0 0 ^32w * *", "day-of-month 32 is out of range (1 to 31)"),
    ("0 0 ^w * *", "the day-of-month field is missing a number"),
    ("0 0 ^mon * *", "the day-of-month field cannot contain \"mon\""),
    ("0 0 * ^0 *", "month 0 is out of range (1 to 12)"),
    ("0 0 * ^13 *", "month 13 is out of range (1 to 12)"),
    ("0 0 * 12,^13 *", "month 13 is out of range (1 to 12)"),
    ("0 0 * ^jaan *", "the month field cannot contain \"jaan\""),
    ("0 0 * ^sebtember *", "the month field cannot contain \"sebtember\""),
    ("0 0 * ^l *", "the month field cannot contain \"l\""),
    ("0 0 * * ^12", "day-of-week 12 is out of range (0 to 7)"),
    ("0 22 * * 1-^12", "day-of-week 12 is out of range (0 to 7)"),
    ("0 0 * * ^fooday-barday", "the day-of-week field cannot contain \"fooday\""),
    ("0 0 * * 1,4,^foo", "the day-of-week field cannot contain \"foo\""),
    ("0 0 * * ^mo", "the day-of-week field cannot contain \"mo\""),
    ("0 0 * * 5#^6", "the day-of-week field has the occurrence \"6\" after \"#\", not one of 1 to 5"),
    ("0 0 * * 5#^", "the day-of-week field has the occurrence \"\" after \"#\", not one of 1 to 5"),
    ("0 0 * * ^L", "the day-of-week field has \"L\" without a weekday"),
    ("0 0 * * ^9L", "day-of-week 9 is out of range (0 to 7)"),
    // Cron: fields that are right and yet never meet.
    ("* * ^31 4 *", "this rule never matches: there is no such date"),
    ("0 0 ^30 2 *", "this rule never matches: there is no such date"),
    ("0 0 0 ^31 2,4,6,9,11 *", "this rule never matches: there is no such date"),
    // Names.
    ("^@reboot", "\"@reboot\" is not a time"),
    ("^@fortnightly", "\"@fortnightly\" is not known"),
    ("^@", "\"@\" is not known"),
    ("@daily ^5", "unexpected \"5\" after \"@daily\""),
    // Intervals.
    ("^0 seconds", "the number before a unit must be at least 1"),
    ("every ^0 minutes", "the number before a unit must be at least 1"),
    ("^-5 minutes", "unexpected \"-\", expected a number, a unit or a weekday"),
    ("every ^-5 minutes", "unexpected \"-\", expected a number, a unit or a weekday"),
    ("1^.5 hours", "unexpected \".\", expected a unit"),
    ("every 1^.5 hours", "unexpected \".\", expected a unit"),
    ("every 5^", "rule ends where a unit was expected"),
    ("every^", "rule ends where a number, a unit or a weekday was expected"),
    ("5 ^lightyears", "\"lightyears\" is not a unit of time"),
    ("every 2 ^day", "\"day\" is singular"),
    ("2 ^second", "\"second\" is singular"),
    ("every 2 ^monday", "\"monday\" cannot follow a number"),
    ("every ^minutes", "\"minutes\" needs a number before it"),
    ("^100000000000000000000 seconds", "an interval can't be longer than 1000 years"),
    ("every ^1001 years", "an interval can't be longer than 1000 years"),
    ("minutely ^15", "unexpected \"15\", expected the end"),
    ("hourly ^2", "unexpected \"2\", expected the end"),
    ("1hour 30 ^minute", "\"minute\" is singular"),
    ("every 30 minutes 1 ^hour", "units must go from large to small"),
    ("every 1 day ^2 hours", "unexpected \"2\", expected the end"),
    ("every 5 minutes ^please", "unexpected \"please\", expected the end"),
    ("every 10 to ^5 minutes", "5 is less than 10"),
    ("every 5 to ^minutes", "unexpected \"minutes\", expected a number"),
    ("every ^0 to 5 minutes", "the number before a unit must be at least 1"),
    ("every 1 to 2 ^months", "a random interval can't count months"),
    ("^minute", "\"minute\" is not a rule"),
    // Times in a unit.
    ("every day at '^2:30:000001'", "\"2:30:000001\" is not a time of this unit"),
    ("every day at '^::2'", "\"::2\" is not a time of this unit"),
    ("every day at '^.2'", "\".2\" is not a time of this unit"),
    ("every day at '^2'", "\"2\" is not a time of this unit"),
    ("every day at '^:2'", "\":2\" is not a time of this unit"),
    ("every day at '^ 2:30:00'", "\" 2:30:00\" is not a time of this unit"),
    ("every day at '^59:59'", "\"59:59\" is not a time of this unit"),
    ("every day at '^25:00:00'", "\"25:00:00\" is not a time of this unit"),
    ("every day at '^00:61:00'", "\"00:61:00\" is not a time of this unit"),
    ("every day at ^24:00", "\"24:00\" is not a time of this unit"),
    ("every day at ^10:30 Europe/Berlin", "\"10:30 europe/berlin\" is not a time of this unit"),
    ("every day at ^10:30pm", "\"10:30pm\" is not a time of this unit"),
    ("every day at^", "there is no time after \"at\""),
    ("every hour at '^2:30:00'", "\"2:30:00\" is not a time of this unit"),
    ("every hour at '^61:00'", "\"61:00\" is not a time of this unit"),
    ("every hour at '^00:61'", "\"00:61\" is not a time of this unit"),
    ("every minute at '^2:30'", "\"2:30\" is not a time of this unit"),
    ("every minute at '^ :30'", "\" :30\" is not a time of this unit"),
    ("every second at ^:30", "seconds can't have an \"at\""),
    ("hourly ^at :30", "unexpected \"at\", expected the end"),
    ("monday ^10:30", "unexpected \"10\", expected the end"),
    ("monday and ^tomorrow", "unexpected \"tomorrow\", expected a weekday"),
    ("monday,^", "rule ends where a weekday was expected"),
    // Letters and words.
    ("^m", "\"m\" is not a rule"),
    ("^bw", "\"bw\" is not a rule"),
    ("^C", "\"C\" is not a rule"),
    ("^X", "\"X\" is not a rule"),
    ("^sometimes", "\"sometimes\" is not a rule"),
    ("^täglich", "\"täglich\" is not a rule"),
    ("D ^D", "unexpected \"d\", expected the end"),
    ("once ^more", "unexpected \"more\", expected the end"),
    // Timestamps.
    ("^2030-13-01", "there is no date 2030-13-01"),
    ("^2030-02-29", "there is no date 2030-02-29"),
    ("^0000-01-01", "there is no date 0000-01-01"),
    ("2030-01-01 ^25:00", "there is no time 25:00:00"),
    ("2030-01-01 ^10:60", "there is no time 10:60:00"),
    ("2030-01-01 10^", "timestamp ends where \":\" was expected"),
    ("2030-01-01 10:30:00.^", "timestamp ends where a fraction of a second was expected"),
    ("2030-01-01 10:30 ^+99", "the offset from UTC is out of range"),
    ("2030-01-01 10:30 ^Nowhere/City", "time zone \"Nowhere/City\" is not known"),
    ("2030^/01/01", "unexpected \"/\" in a timestamp, expected \"-\""),
    ("2030-^", "timestamp ends where the month (2 digits) was expected"),
    ("^12345-01-01", "unexpected \"1\" in a timestamp, expected the year (4 digits)"),
    ("once at ^tomorrow", "unexpected \"t\" in a timestamp, expected the year (4 digits)"),
    // The sun.
    ("sunset^", "a place is missing after \"sunset\""),
    ("sunset ^near 52,13", "a place is missing after \"sunset\""),
    ("sunset at ^52.5", "the longitude is missing"),
    ("sunset at ^91,13.4", "latitude 91 is out of range (-90 to 90)"),
    ("sunset at 52.5,^181", "longitude 181 is out of range (-180 to 180)"),
    ("sunset at ^north,13.4", "the latitude \"north\" is not a number"),
    ("sunset at ^nan,13.4", "the latitude \"nan\" is not a number"),
    ("sunset at 52.5,^13.4 tomorrow", "the longitude \"13.4 tomorrow\" is not a number"),
    ("^dawn_early at 52.5,13.4", "\"dawn_early\" is not a solar event"),
    ("sunset at ^90,0", "sunset never happens at this place"),
];

#[test]
fn wrong_rules_name_the_place() {
    let mut wrong = Vec::new();
    for (marked, message) in WRONG_RULES {
        let text = marked.replacen('^', "", 1);
        match Rule::parse(&text, false) {
            Ok(rule) => wrong.push(format!("{text:?} was taken for {rule:?}")),
            Err(error) => {
                let right = error.field == "rule" && error.message == *message && error.position == marked.find('^');
                if !right {
                    wrong.push(format!("{marked:?}: {error}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_written_elsewhere_is_told_how_to_be_written() {
    for (rule, hint) in [
        ("today at 10", "For each day write 'daily at 10:00'; for once add repeats => 1."),
        ("Tomorrow at 9:30 pm", "For each day write 'daily at 21:30'; for once add repeats => 1 and start_at => current_date + 1."),
        ("tonight", "For each day write 'daily at 20:00'; for once add repeats => 1."),
        ("midnight", "For each day write 'daily at 00:00'; for once add repeats => 1."),
        ("now", "Write 'once': it fires as soon as it may."),
        ("in 5 minutes", "For once write 'once' and start_at => now() + interval '5 minutes'."),
        ("next monday at 8", "For every week write 'monday at 08:00'; for once write the date and time."),
        ("CRON_TZ=Europe/Berlin 0 2 * * *", "The zone is a parameter of its own: rule '0 2 * * *', tz => 'Europe/Berlin'."),
        ("TZ=UTC  30 1 * * mon", "The zone is a parameter of its own: rule '30 1 * * mon', tz => 'UTC'."),
        ("CRON_TZ=", "The zone is a parameter of its own: tz => 'Europe/Berlin'."),
        ("@every 1h30m", "Write 'every 1 hour 30 minutes'."),
        ("@every 90 days", "Write 'every 90 days'."),
        ("@every so often", "Write an interval, such as 'every 5 minutes'."),
        ("cron(0 2 * * ? *)", "Write the cron expression itself: '0 2 * * *'."),
        ("cron(0 2 ? * 1 *)", "Write the cron expression itself, such as '0 22 * * 1-5'."),
        ("PT1H30M", "Write 'every 1 hour 30 minutes'."),
        ("5m", "Write 'every 5 minutes' or 'every 5 months'."),
        ("rate(5 minutes)", "Write the interval itself, such as 'every 5 minutes'."),
    ] {
        let error = Rule::parse(rule, false).expect_err(rule);
        assert_eq!(error.hint.as_deref(), Some(hint), "{rule}: {error}");
        assert_eq!(error.field, "rule");
        // What stands in quotes and is a rule is one.
        for quoted in hint.split('\'').skip(1).step_by(2).filter(|text| text.starts_with(|c: char| c.is_lowercase() || c.is_ascii_digit()))
        {
            let is_other = ["5 minutes"].iter().any(|other| quoted.starts_with(other));
            assert!(is_other || Rule::parse(quoted, false).is_ok(), "{rule}: {quoted:?}");
        }
    }
}

#[test]
fn both_days_may_never_meet() {
    // No month has a second Friday on its 1st; with the usual "either" the rule is fine.
    assert!(Rule::parse("0 0 1 * fri#2", false).is_ok());
    let error = Rule::parse("0 0 1 * fri#2", true).expect_err("never matches");
    assert_eq!(error.message, "this rule never matches: there is no such date");
    // February 29th falls on every weekday sooner or later.
    assert!(Rule::parse("0 0 29 2 mon#5", true).is_ok());
}

#[test]
fn long_rules() {
    let error = Rule::parse(&"1,".repeat(600), false).expect_err("too long");
    assert_eq!(error.message, "rule is longer than 1000 bytes");
    let everything = (0..60).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    assert!(Rule::parse(&format!("{everything} {everything} * * * *"), false).is_ok());
}

#[test]
fn messages_follow_the_style() {
    for (marked, _) in WRONG_RULES {
        let error = Rule::parse(&marked.replacen('^', "", 1), false).expect_err("wrong");
        assert!(!error.message.ends_with('.'), "{error}");
        assert!(!error.message.starts_with(|c: char| c.is_uppercase()), "{error}");
        assert!(error.hint.is_none_or(|hint| hint.ends_with(['.', '?'])), "{marked}");
    }
}

#[test]
fn zones() {
    assert_eq!(parse_zone("Europe/Berlin").map(|zone| zone.name()), Ok("Europe/Berlin"));
    assert_eq!(parse_zone("europe/berlin").map(|zone| zone.name()), Ok("Europe/Berlin"));
    assert_eq!(parse_zone("utc").map(|zone| zone.name()), Ok("UTC"));
    let hint = |name: &str| {
        let error = parse_zone(name).expect_err("unknown");
        assert_eq!(error.field, "tz");
        error.hint.unwrap_or_default()
    };
    assert_eq!(hint("FakeZone"), "Use an IANA name such as \"Europe/Berlin\" or \"UTC\".");
    assert_eq!(hint("Europe/Brelin"), "Did you mean \"Europe/Berlin\"?");
    assert_eq!(hint("Berlin"), "Did you mean \"Europe/Berlin\"?");
    assert_eq!(hint("new york"), "Did you mean \"America/New_York\"?");
    assert_eq!(hint(""), "Use an IANA name such as \"Europe/Berlin\" or \"UTC\".");
    assert_eq!(hint("ÄÖÜ/日本"), "Use an IANA name such as \"Europe/Berlin\" or \"UTC\".");
}

#[test]
fn month_ends() {
    assert_eq!(MonthEnd::parse("sticky"), Ok(MonthEnd::Sticky));
    assert_eq!(MonthEnd::parse("last").expect_err("unknown").field, "month_end");
}
