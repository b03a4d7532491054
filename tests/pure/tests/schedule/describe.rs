//! Rules in words, and the kinds shown beside them.

use tenant_q_pure::schedule::describe::describe;
use tenant_q_pure::schedule::rule::Rule;

#[test]
fn rules_in_words() {
    for (rule, kind, words) in [
        ("* * * * *", "cron", "every minute"),
        ("*/15 * * * *", "cron", "every 15 minutes"),
        ("5 * * * *", "cron", "every hour, at 5 minutes past the hour"),
        ("0 * * * *", "cron", "every hour, on the hour"),
        ("1 * * * *", "cron", "every hour, at 1 minute past the hour"),
        ("*/30 * * * *", "cron", "every 30 minutes"),
        ("5,35 * * * *", "cron", "every hour, at 5 and 35 minutes past the hour"),
        ("5 9-17 * * *", "cron", "every hour from 09:05 to 17:05"),
        ("5,35 9-17 * * *", "cron", "every hour, at 5 and 35 minutes past the hour, from 09:00 to 17:59"),
        ("5 0,4,8,12,16 * * *", "cron", "at 5 minutes past the hour, in hours 0, 4, 8, 12 and 16"),
        ("30 5 * * * *", "cron", "every hour, at 5 minutes 30 seconds past the hour"),
        ("30 * * * * *", "cron", "every minute, at 30 seconds past the minute"),
        ("*/10 0 * * * *", "cron", "every 10 seconds of minute 0 of every hour"),
        ("0 8 * * *", "cron", "at 08:00"),
        ("0,30 8,12 * * *", "cron", "at 08:00, 08:30, 12:00 and 12:30"),
        ("*/10 9-17 * * mon-fri", "cron", "every 10 minutes, from 09:00 to 17:59, on Monday to Friday"),
        ("*/5 * * * * *", "cron", "every 5 seconds"),
        ("30 0 12 * * *", "cron", "at 12:00:30"),
        ("0 0 L * *", "cron", "at 00:00, on the last day of the month"),
        ("0 0 L-3 * *", "cron", "at 00:00, on the day 3 days before the last of the month"),
        ("0 0 LW * *", "cron", "at 00:00, on the last working day of the month"),
        ("0 0 15W 1,7 *", "cron", "at 00:00, on the working day nearest to day 15 of the month, in January and July"),
        ("0 0 1,15 * mon", "cron", "at 00:00, on days 1 and 15 of the month or on Monday"),
        (
            "0 0 */2 * mon",
            "cron",
            "at 00:00, on days 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29 and 31 of the month if it is Monday",
        ),
        // A day field that has every day, and doesn't begin with "*", makes the other one idle.
        ("0 0 13 * 0-6", "cron", "at 00:00"),
        ("0 0 1-31 * mon", "cron", "at 00:00"),
        ("0 0 * * 0-6", "cron", "at 00:00"),
        ("0 0 13 * *", "cron", "at 00:00, on day 13 of the month"),
        ("0 0 * * fri#2", "cron", "at 00:00, on the second Friday of the month"),
        ("0 0 * * 5L", "cron", "at 00:00, on the last Friday of the month"),
        ("@monthly", "cron", "at 00:00, on day 1 of the month"),
        ("10 seconds", "interval", "every 10 seconds"),
        ("every 90 seconds", "interval", "every 1 minute 30 seconds"),
        ("I", "interval", "every minute"),
        ("H", "interval", "every hour"),
        ("every 5 to 10 minutes", "random", "every 5 to 10 minutes, at random"),
        ("every 90 to 600 seconds", "random", "every 1 minute 30 seconds to 10 minutes, at random"),
        ("every 1 to 2 hours", "random", "every 1 to 2 hours, at random"),
        ("after", "after", "after other schedules"),
        ("after all", "after", "after other schedules"),
        ("after any", "after", "after any of other schedules"),
        ("D", "daily", "every day"),
        ("daily at 10:30", "daily", "every day at 10:30"),
        ("W", "weekly", "every week"),
        ("BW", "biweekly", "every 2 weeks"),
        ("M", "monthly", "every month"),
        ("BM", "bimonthly", "every 2 months"),
        ("Q", "quarterly", "every 3 months"),
        ("Y", "yearly", "every year"),
        ("every 3 days at 7:00", "interval", "every 3 days at 07:00"),
        ("monday at 10:30", "weekly", "every Monday at 10:30"),
        ("weekdays", "weekly", "every Monday to Friday"),
        ("every hour at ':30'", "hourly", "every hour, at 30 minutes past the hour"),
        ("every minute at ':10'", "minutely", "every minute, at 10 seconds past the minute"),
        ("every hour at ':00'", "hourly", "every hour, on the hour"),
        ("every hour at 05:30", "hourly", "every hour, at 5 minutes 30 seconds past the hour"),
        ("every 2 hours at ':30'", "interval", "every 2 hours, at 30 minutes past the hour"),
        ("O", "once", "once"),
        ("2030-01-01 10:30", "clocked", "once at 2030-01-01 10:30"),
        ("2030-01-01 10:30+02", "clocked", "once at 2030-01-01 10:30 UTC+02:00"),
        ("sunset at 52.5,13.4", "solar", "at sunset at latitude 52.5, longitude 13.4"),
    ] {
        let parsed = Rule::parse(rule, false).unwrap_or_else(|error| panic!("{rule}: {error}"));
        assert_eq!((parsed.kind(), describe(&parsed).as_str()), (kind, words), "{rule}");
    }
}
