//! 100,000 random cron expressions against croniter, an independent implementation in another language.
//!
//! Expressions and questions come from a seed (printed; `TENANT_Q_SEED` for another one), croniter answers them in two
//! processes of `croniter.py`. The two understand some expressions differently. Each such difference has a name here
//! ([`Family`]), and isn't just tolerated: an expression that shows one is asked about a second time, written without
//! it, and then both must agree. In zones, on the days when the clock is changed, tenant_q's fire times must be those
//! of a plain enumeration of minutes. docs/schedules.md lists the families for people.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use chrono::{DateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use tenant_q_pure::schedule::rule::Rule;
use tenant_q_pure::schedule::zone::TZDATA_VERSION;

use super::Schedule;
use super::brute_force::{self, WINDOW_DAYS, first_elapsed, first_fixed};
use super::generator::{Random, seed};

const EXPRESSIONS_IN_UTC: usize = 80_000;
const EXPRESSIONS_IN_ZONES: usize = 20_000;
const FIRE_TIMES: usize = 3;
/// Two cores are what every machine has.
const PROCESSES: usize = 2;

/// Where tenant_q's value differs from croniter's on purpose. In each, tenant_q's is Vixie's where Vixie has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    /// `5-5`: Vixie: 5. croniter: the whole field.
    EqualRange,
    /// `23-4/2`: the step goes on over the end of the field, 23, 1, 3. croniter: 23, 2, 4, one too late.
    SteppedWrap,
    /// `7/2`: Sunday is the last day of its field, so nothing follows. croniter: takes it for 0/2.
    StepFromSunday7,
    /// `thursday`, `tues`: croniter knows three letters only.
    LongName,
    /// `5,*` in a field: Vixie looks at the first character. croniter takes the field for `*`.
    StarLater,
    /// `5#2`, `5L` or `15W` beside the other day field restricted, too: one of them is enough. croniter wants both.
    SpecialDayOr,
    /// `1-31` beside `1,*/2`: both are restricted, so every day matches. croniter takes a full list for `*`.
    FullListOr,
    /// `31W` in a month without a 31st: no fire time. croniter: the working day nearest to the last.
    NearestBeyondMonth,
    /// `*/90`: a step larger than the field is refused. croniter: the field's first value.
    StepTooLarge,
    /// A fixed rule's time in the gap of a clock change fires moved by the gap. croniter: at the gap's end.
    InGap,
    /// A fixed rule's time in the overlap of a clock change fires once. croniter: in both passes.
    InOverlap,
    /// An elapsed rule near a clock change fires whenever the clock shows a matching time. croniter leaves some out.
    ElapsedNearChange,
}

/// One item of a field as both are told it.
struct Item {
    ours: String,
    /// As croniter understands it in our sense.
    theirs: String,
    values: Vec<u32>,
    family: Option<Family>,
}

struct Kind {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTES: Kind = Kind { min: 0, max: 59, names: &[] };
const HOURS: Kind = Kind { min: 0, max: 23, names: &[] };
const DAYS: Kind = Kind { min: 1, max: 31, names: &[] };
const MONTHS: Kind = Kind {
    min: 1,
    max: 12,
    names: &["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"],
};
const WEEKDAYS: Kind = Kind { min: 0, max: 6, names: &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"] };

/// A field as both are told it, and its values found by counting.
#[derive(Clone)]
struct Field {
    ours: String,
    theirs: String,
    values: Vec<u32>,
    families: Vec<Family>,
    starred: bool,
    /// `#`, `L` in the weekdays, `W`: not a plain set of values.
    special: bool,
}

impl Kind {
    fn size(&self) -> u32 {
        self.max - self.min + 1
    }

    /// A value as people write it: a number, perhaps with a leading zero, or a name of three letters or more.
    fn written(&self, random: &mut Random, value: u32) -> (String, String, Option<Family>) {
        if !self.names.is_empty() && random.one_in(3) {
            let name = self.names[(value - self.min) as usize];
            let length = if random.one_in(8) { 3 + random.below(name.len() - 2) } else { 3 };
            let mut ours = name[..length].to_owned();
            match random.below(4) {
                0 => ours = ours.to_uppercase(),
                1 => ours = ours[..1].to_uppercase() + &ours[1..],
                _ => {}
            }
            return (ours, name[..3].to_owned(), (length > 3).then_some(Family::LongName));
        }
        let number = match value {
            0 if self.max == 6 && random.one_in(2) => "7".to_owned(),
            _ if random.one_in(20) => format!("{value:02}"),
            _ => value.to_string(),
        };
        (number.clone(), number, None)
    }

    /// So many values from `low` on, around the end of the field, every `step`th.
    fn count(&self, low: u32, distance: u32, step: u32) -> Vec<u32> {
        (0..=distance).step_by(step as usize).map(|n| (low - self.min + n) % self.size() + self.min).collect()
    }

    fn item(&self, random: &mut Random) -> Item {
        let low = self.min + random.below(self.size() as usize) as u32;
        let (ours, theirs, long) = self.written(random, low);
        let listed = |values: &[u32]| values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        match random.below(10) {
            0..=4 => Item { ours, theirs, values: vec![low], family: long },
            5 => {
                let step = 1 + random.below(self.size() as usize / 2) as u32;
                let values = self.count(low, self.max - low, step);
                if ours.starts_with('7') && self.max == 6 {
                    return Item {
                        ours: format!("{ours}/{step}"),
                        theirs: "0".to_owned(),
                        values: vec![0],
                        family: Some(Family::StepFromSunday7),
                    };
                }
                Item { ours: format!("{ours}/{step}"), theirs: format!("{theirs}/{step}"), values, family: long }
            }
            kind => {
                let high = match kind {
                    // Around the end, now and then; equal, seldom.
                    6 if random.one_in(4) => low,
                    6 => self.min + random.below(self.size() as usize) as u32,
                    _ if low == self.max => self.min,
                    _ => low + 1 + random.below((self.max - low) as usize) as u32,
                };
                let (ours_high, theirs_high, long_high) = self.written(random, high);
                let step = if random.one_in(3) { 1 + random.below(self.size() as usize / 2) as u32 } else { 1 };
                let suffix = if step > 1 || random.one_in(10) { format!("/{step}") } else { String::new() };
                let (ours, plain_theirs) = (format!("{ours}-{ours_high}{suffix}"), format!("{theirs}-{theirs_high}{suffix}"));
                // A range from the number 0 to the number 7 is the whole week, both ends are Sunday.
                let whole_week = self.max == 6 && low == 0 && high == 0 && !ours.starts_with('7') && ours_high == "7";
                let distance = match (high + self.size() - low) % self.size() {
                    0 if whole_week => 7,
                    distance => distance,
                };
                let values = self.count(low, distance, step);
                let family = if low == high && !whole_week {
                    Some(Family::EqualRange)
                } else if low > high && step > 1 {
                    Some(Family::SteppedWrap)
                } else {
                    long.or(long_high)
                };
                let theirs = if family.is_none_or(|family| family == Family::LongName) { plain_theirs } else { listed(&values) };
                Item { ours, theirs, values, family }
            }
        }
    }

    fn star(&self, random: &mut Random) -> Item {
        let all = self.size() - 1;
        if random.one_in(2) {
            return Item { ours: "*".to_owned(), theirs: "*".to_owned(), values: self.count(self.min, all, 1), family: None };
        }
        let step = 1 + random.below(self.size() as usize) as u32;
        let text = format!("*/{step}");
        Item { ours: text.clone(), theirs: text, values: self.count(self.min, all, step), family: None }
    }

    /// A field that is `*` in so many of a hundred cases.
    fn field(&self, random: &mut Random, star_percent: usize) -> Field {
        if random.below(100) < star_percent {
            let Item { ours, theirs, values, .. } = match random.below(4) {
                0 => self.star(random),
                _ => Item { ours: "*".to_owned(), theirs: "*".to_owned(), values: self.count(self.min, self.size() - 1, 1), family: None },
            };
            return Field { ours, theirs, values, families: vec![], starred: true, special: false };
        }
        let mut field =
            Field { ours: String::new(), theirs: String::new(), values: vec![], families: vec![], starred: false, special: false };
        let count = if random.one_in(2) { 1 } else { 1 + random.below(4) };
        for n in 0..count {
            let mut item = self.item(random);
            if random.one_in(25) {
                item = self.star(random);
                match (n, item.ours == "*") {
                    (0, _) => field.starred = true,
                    (_, false) => {}
                    (_, true) => {
                        item.theirs = format!("{}-{}", self.min, self.max);
                        item.family = Some(Family::StarLater);
                    }
                }
                // croniter doesn't mind what stands behind a star at the beginning.
                if n == 0 && count > 1 && item.ours == "*" {
                    item.theirs = "*/1".to_owned();
                    item.family = Some(Family::StarLater);
                }
            }
            let comma = if n == 0 { "" } else { "," };
            field.ours += &format!("{comma}{}", item.ours);
            field.theirs += &format!("{comma}{}", item.theirs);
            field.values.extend(item.values);
            field.families.extend(item.family);
        }
        if self.min == 0 && self.max >= 23 && random.one_in(2_000) {
            let step = self.size() + 1 + random.below(50) as u32;
            field.ours += &format!(",*/{step}");
            field.families = vec![Family::StepTooLarge];
        }
        field
    }

    fn special(ours: &str, theirs: &str, special: bool) -> Field {
        Field { ours: ours.to_owned(), theirs: theirs.to_owned(), values: vec![], families: vec![], starred: false, special }
    }
}

fn days_of_month(random: &mut Random) -> Field {
    match random.below(20) {
        0 => Kind::special("L", "l", false),
        1 => {
            let day = 1 + random.below(31);
            Kind::special(&format!("{day},L"), &format!("{day},l"), false)
        }
        2 => {
            let day = 1 + random.below(31);
            let mut field = Kind::special(&format!("{day}W"), &format!("{day}w"), true);
            if day > 28 {
                field.families.push(Family::NearestBeyondMonth);
                field.values.push(day as u32);
            }
            field
        }
        3 => Kind::special("?", "?", false).starred(),
        _ => DAYS.field(random, 50),
    }
}

fn days_of_week(random: &mut Random) -> Field {
    let day = random.below(8);
    let name = &WEEKDAYS.names[day % 7][..3];
    match random.below(20) {
        0 => Kind::special(&format!("{day}L"), &format!("l{day}"), true),
        1 => Kind::special(&format!("L{day}"), &format!("l{day}"), true),
        2 => {
            let text = format!("{name}#{}", 1 + random.below(5));
            Kind::special(&text, &text, true)
        }
        3 => {
            let text = format!("{day}#{},{}#{}", 1 + random.below(5), random.below(8), 1 + random.below(5));
            Kind::special(&text, &text, true)
        }
        4 => Kind::special("?", "?", false).starred(),
        _ => WEEKDAYS.field(random, 50),
    }
}

impl Field {
    fn starred(mut self) -> Field {
        self.starred = true;
        self
    }
}

struct Expression {
    ours: String,
    day_and: bool,
    families: Vec<Family>,
    /// The same in croniter's way of saying it: fire times of all of these together.
    theirs: Vec<String>,
}

/// An expression of the whole language, for UTC.
fn expression(random: &mut Random) -> Expression {
    let seconds = random.one_in(10).then(|| MINUTES.field(random, 20));
    let (minutes, hours) = (MINUTES.field(random, 25), HOURS.field(random, 35));
    let (days, weekdays, mut months) = (days_of_month(random), days_of_week(random), MONTHS.field(random, 65));
    let day_and = random.one_in(4);
    let mut families: Vec<Family> =
        [&minutes, &hours, &days, &months, &weekdays].into_iter().chain(&seconds).flat_map(|f| f.families.clone()).collect();
    let union = !day_and && !days.starred && !weekdays.starred;
    if union && (days.special || weekdays.special) {
        families.push(Family::SpecialDayOr);
    }
    if union && !days.special && !weekdays.special && (days.ours.contains('*') || weekdays.ours.contains('*')) {
        families.push(Family::FullListOr);
    }
    let (head, tail) =
        (|f: fn(&Field) -> &str| [&minutes, &hours].into_iter().map(f).map(str::to_owned).collect::<Vec<_>>().join(" "), seconds.as_ref());
    let ours = format!("{} {} {} {}", head(|f| &f.ours), days.ours, months.ours, weekdays.ours);
    let ours = match tail {
        Some(seconds) => format!("{} {ours}", seconds.ours),
        None => ours,
    };
    let in_theirs = |days: &str, months: &str, weekdays: &str| {
        let text = format!("{} {days} {months} {weekdays}", head(|f| &f.theirs));
        match tail {
            Some(seconds) => format!("{} {text}", seconds.theirs),
            None => text,
        }
    };
    let mut theirs = Vec::new();
    let beyond = families.contains(&Family::NearestBeyondMonth);
    // `31W` for croniter: only in the months that have a 31st.
    let long_months = |months: &Field, day: u32| -> Vec<u32> {
        months
            .values
            .iter()
            .copied()
            .filter(|month| day <= if *month == 2 { 28 } else { [30, 31][usize::from([1, 3, 5, 7, 8, 10, 12].contains(month))] })
            .collect()
    };
    if beyond && months.values.contains(&2) && days.values[0] == 29 {
        // February 29th as 29W is croner's to check: croniter has no months by year.
        months.values.retain(|month| *month != 2);
        let text = months.values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let months = if text.is_empty() { "1".to_owned() } else { text };
        return Expression {
            ours: in_theirs("15w", &months, "*"),
            day_and,
            families: vec![],
            theirs: vec![in_theirs("15w", &months, "*")],
        };
    }
    let months_with_day = match days.values.first() {
        Some(day) if beyond => Some(long_months(&months, *day).iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        _ => None,
    };
    let dates_months = months_with_day.as_deref().unwrap_or(&months.theirs);
    if union {
        if !dates_months.is_empty() {
            theirs.push(in_theirs(&days.theirs, dates_months, "*"));
        }
        theirs.push(in_theirs("*", &months.theirs, &weekdays.theirs));
    } else if !dates_months.is_empty() {
        theirs.push(in_theirs(&days.theirs, dates_months, &weekdays.theirs));
    }
    Expression { ours, day_and, families, theirs }
}

/// `15W`, `5L`: what croniter writes differently without meaning anything else is rewritten in both questions.
fn verbatim(expression: &str) -> String {
    let mut fields: Vec<String> = expression.split(' ').map(str::to_owned).collect();
    if let Some(weekdays) = fields.last_mut()
        && let Some(day) = weekdays.strip_suffix('L')
    {
        *weekdays = format!("L{day}");
    }
    fields.join(" ")
}

/// A plain expression with something to do within days, for zones: with its values, for the enumeration.
fn zoned_expression(random: &mut Random) -> (Expression, brute_force::Cron) {
    let (minutes, hours) = (MINUTES.field(random, 30), HOURS.field(random, 40));
    let (days, months, weekdays) = (DAYS.field(random, 80), MONTHS.field(random, 90), WEEKDAYS.field(random, 80));
    let day_and = random.one_in(4);
    let fields = [&minutes, &hours, &days, &months, &weekdays];
    let union = !day_and && !days.starred && !weekdays.starred;
    let mut families: Vec<Family> = fields.iter().flat_map(|field| field.families.clone()).collect();
    if union && (days.ours.contains('*') || weekdays.ours.contains('*')) {
        families.push(Family::FullListOr);
    }
    let join = |texts: [&str; 5]| texts.join(" ");
    let ours = join(fields.map(|field| field.ours.as_str()));
    let theirs = match union {
        true => vec![
            join([&minutes.theirs, &hours.theirs, &days.theirs, &months.theirs, "*"]),
            join([&minutes.theirs, &hours.theirs, "*", &months.theirs, &weekdays.theirs]),
        ],
        false => vec![join(fields.map(|field| field.theirs.as_str()))],
    };
    let plain = |field: &Field| brute_force::Field { text: field.ours.clone(), values: field.values.clone(), starred: field.starred };
    let cron = brute_force::Cron {
        minutes: plain(&minutes),
        hours: plain(&hours),
        days: plain(&days),
        months: plain(&months),
        weekdays: plain(&weekdays),
    };
    (Expression { ours, day_and, families, theirs }, cron)
}

struct Question {
    expression: Expression,
    zone: Tz,
    after: i64,
    /// For zones.
    cron: Option<brute_force::Cron>,
}

impl Question {
    fn ask(&self, expressions: &[String]) -> String {
        let days = if self.expression.day_and { "and" } else { "or" };
        format!("{days}\t{}\t{}\t{}", self.zone.name(), self.after, expressions.join("\t"))
    }

    fn our_answer(&self) -> String {
        match Rule::parse(&self.expression.ours, self.expression.day_and) {
            Err(error) if error.message.contains("never matches") => "never".to_owned(),
            Err(_) => "refused".to_owned(),
            Ok(rule) => {
                let schedule = Schedule { rule, zone: self.zone, ..Schedule::new("once", "UTC", "1970-01-01 00:00") };
                let after = DateTime::from_timestamp(self.after, 0).expect("an instant");
                let times = schedule.fire_times(after, FIRE_TIMES);
                times.iter().map(|time| time.timestamp().to_string()).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

/// The python that `scripts/setup` gave croniter and the zones of the same release as ours.
fn python() -> PathBuf {
    let state = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.pg");
    let python = std::env::var_os("TENANT_Q_PYTHON").map_or_else(|| state.join("python/bin/python"), PathBuf::from);
    assert!(python.exists(), "{} is missing: scripts/setup makes it", python.display());
    python
}

/// One answer a question, in order.
fn croniter_answers(questions: &[String]) -> Vec<String> {
    let chunk = questions.len().div_ceil(PROCESSES).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = questions.chunks(chunk).map(|questions| scope.spawn(move || one_process(questions))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("croniter's answers")).collect()
    })
}

fn one_process(questions: &[String]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schedule/croniter.py");
    let mut child = Command::new(python())
        .arg("-I")
        .arg(script)
        // Zones from the pinned package, not from the machine.
        .env("PYTHONTZPATH", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let (send, receive) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let reader = std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    {
        let mut input = BufWriter::new(child.stdin.take().expect("a pipe"));
        questions.iter().for_each(|question| writeln!(input, "{question}").expect("python reads"));
    }
    assert!(child.wait().expect("python ends").success(), "croniter.py failed");
    reader.join().expect("a reader").expect("a receiver");
    let answers: Vec<String> = receive.iter().collect();
    assert_eq!(answers.len(), questions.len(), "an answer a question");
    answers
}

/// Asks croniter about all questions as they are written, and again, said croniter's way, about those that differ.
/// `unexplained`: why a difference that remains is none, or an explanation of what is wrong.
fn compare(questions: &[Question], explained: impl Fn(&Question, &str, &str) -> Result<Family, String>) -> BTreeMap<Family, usize> {
    let asked: Vec<String> = questions.iter().map(|q| q.ask(&[verbatim(&q.expression.ours)])).collect();
    let answers = croniter_answers(&asked);
    let mut count = BTreeMap::new();
    let mut again = Vec::new();
    let mut wrong = Vec::new();
    for (question, theirs) in questions.iter().zip(&answers) {
        let ours = question.our_answer();
        if ours == *theirs {
            continue;
        }
        if question.expression.families.contains(&Family::StepTooLarge) {
            if ours == "refused" {
                *count.entry(Family::StepTooLarge).or_insert(0) += 1;
            } else {
                wrong.push(format!("{:?}: a step larger than its field, and yet {ours}", question.expression.ours));
            }
            continue;
        }
        again.push((question, ours, theirs));
    }
    let asked: Vec<String> = again.iter().map(|(question, ..)| question.ask(&question.expression.theirs)).collect();
    for ((question, ours, verbatim), theirs) in again.iter().zip(croniter_answers(&asked)) {
        let expression = &question.expression;
        // `31W` in months without a 31st only.
        let theirs = if expression.theirs.is_empty() { "never".to_owned() } else { theirs };
        let family = if *ours == theirs && !expression.families.is_empty() {
            expression.families.iter().copied().min().ok_or_else(String::new)
        } else {
            explained(question, ours, &theirs)
        };
        match family {
            Ok(family) => *count.entry(family).or_insert(0) += 1,
            Err(why) => wrong.push(format!(
                "{:?} day_and={} {} after {} ({:?})\n  tenant_q {ours}\n  croniter {verbatim}\n  said its way {:?}: {theirs}\n  {why}",
                expression.ours,
                expression.day_and,
                question.zone.name(),
                DateTime::from_timestamp(question.after, 0).expect("an instant"),
                expression.families,
                expression.theirs,
            )),
        }
    }
    println!("{} of {} expressions differ: {count:?}", again.len(), questions.len());
    assert!(wrong.is_empty(), "{} unexplained differences; the first:\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
    count
}

#[test]
fn croniter_agrees_on_a_hundred_thousand_expressions() {
    let seed = seed();
    let mut random = Random::new(seed);
    let questions: Vec<Question> = (0..EXPRESSIONS_IN_UTC)
        .map(|_| Question { expression: expression(&mut random), zone: Tz::UTC, after: random.below(2_500_000_000) as i64, cron: None })
        .collect();
    let found = compare(&questions, |_, _, _| Err("not explained by any family".to_owned()));
    // A family that never occurs proves nothing: the generator has lost it, or croniter has changed.
    for family in [Family::EqualRange, Family::SteppedWrap, Family::LongName, Family::SpecialDayOr, Family::StepTooLarge] {
        assert!(found.contains_key(&family), "{family:?} doesn't occur any more");
    }
}

/// Zones with changes in every hour of the night, by an hour, half an hour, two hours and a day.
const ZONES: &[Tz] = &[
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::Australia__Lord_Howe,
    Tz::Antarctica__Troll,
    Tz::America__Santiago,
    Tz::America__Sao_Paulo,
    Tz::Asia__Beirut,
    Tz::Asia__Gaza,
    Tz::Africa__Casablanca,
    Tz::Europe__Dublin,
    Tz::Pacific__Apia,
    Tz::Atlantic__Azores,
    Tz::Asia__Tehran,
    Tz::Asia__Kathmandu,
];

#[test]
fn croniter_agrees_on_days_of_clock_changes() {
    let mut random = Random::new(seed() ^ 0x5ca1ab1e);
    assert_eq!(TZDATA_VERSION, "2025b", "another release of the zones: pin tzdata in scripts/setup to the same");
    let changes: Vec<Vec<i64>> = ZONES.iter().map(|zone| changes_of(*zone)).collect();
    let questions: Vec<Question> = (0..EXPRESSIONS_IN_ZONES)
        .map(|_| {
            let (expression, cron) = zoned_expression(&mut random);
            let n = random.below(ZONES.len());
            let change = changes[n][random.below(changes[n].len())];
            let distance = if random.one_in(2) { 4 } else { 40 } * 3600;
            let after = change - distance + random.below(distance as usize * 5 / 4) as i64;
            Question { expression, zone: ZONES[n], after, cron: Some(cron) }
        })
        .collect();
    let found = compare(&questions, explained_by_change);
    for family in [Family::InGap, Family::InOverlap] {
        assert!(found.contains_key(&family), "{family:?} doesn't occur any more");
    }
}

fn offset(zone: Tz, instant: i64) -> i32 {
    let instant = DateTime::from_timestamp(instant, 0).expect("an instant");
    zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc()
}

/// To the hour, from 1975 to 2037.
fn changes_of(zone: Tz) -> Vec<i64> {
    let hours = (5 * 365 * 24)..(67 * 365 * 24);
    hours.map(|hour| hour * 3600).filter(|instant| offset(zone, *instant) != offset(zone, instant - 3600)).collect()
}

/// A difference in a zone: ours must be what counting minutes gives, and a change of the clock must lie nearby.
fn explained_by_change(question: &Question, ours: &str, theirs: &str) -> Result<Family, String> {
    let times = |text: &str| text.split(' ').map(str::parse).collect::<Result<Vec<i64>, _>>();
    let (Ok(ours), Ok(theirs), Some(cron)) = (times(ours), times(theirs), &question.cron) else {
        return Err("one of them has no answer".to_owned());
    };
    let mut previous = question.after;
    for (n, time) in ours.iter().enumerate() {
        // Not from far away, where the enumeration doesn't reach: from a day before the earlier answer.
        let earlier = theirs.get(n).map_or(*time, |theirs| *theirs.min(time));
        let from = previous.max(earlier - 86_400);
        let from = DateTime::<Utc>::from_timestamp(from, 0).expect("an instant");
        let counted = match cron.elapsed() {
            true => first_elapsed(cron, question.expression.day_and, question.zone, from),
            false => first_fixed(cron, question.expression.day_and, question.zone, from),
        };
        let fits = match counted {
            Some(counted) => counted.timestamp() == *time,
            None => *time > (from + TimeDelta::days(WINDOW_DAYS - 2)).timestamp(),
        };
        if !fits {
            return Err(format!("counting minutes gives {counted:?}"));
        }
        previous = *time;
    }
    let first = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs).unwrap_or(0);
    let (Some(our), Some(their)) = (ours.get(first), theirs.get(first)) else {
        return Err("one of them has fewer answers".to_owned());
    };
    let (low, high) = (*our.min(their) - 2 * 86_400, *our.max(their) + 900);
    let Some(change) =
        (low / 900..=high / 900).map(|quarter| quarter * 900).find(|at| offset(question.zone, *at) != offset(question.zone, at - 900))
    else {
        return Err("and no change of the clock nearby".to_owned());
    };
    let forward = offset(question.zone, change) > offset(question.zone, change - 900);
    Ok(match (cron.elapsed(), forward) {
        (true, _) => Family::ElapsedNearChange,
        (false, true) => Family::InGap,
        (false, false) => Family::InOverlap,
    })
}
