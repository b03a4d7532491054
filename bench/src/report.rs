//! What was measured: collected line by line, shown as it comes, and at the end as one table of medians.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::server::Server;

pub struct Report {
    heading: String,
    lines: Vec<Line>,
    failures: Vec<String>,
}

struct Line {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
}

impl Report {
    pub fn new(server: &Server) -> Report {
        let heading = format!(
            "tenant_q {} · {} · {}\n{}",
            server.value("SELECT default_version FROM pg_available_extensions WHERE name = 'tenant_q'"),
            std::env::var("BENCH_REVISION").unwrap_or_default(),
            server.value("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"')"),
            machine(server),
        );
        println!("{heading}");
        Report { heading, lines: Vec::new(), failures: Vec::new() }
    }

    pub fn round(&self, round: usize, of: usize) {
        if of > 1 {
            println!("-- round {round} of {of}");
        }
    }

    /// Runs one part; if it fails, says so and lets the others go on.
    pub fn part(&mut self, name: &str, part: impl FnOnce(&mut Report)) {
        let began = std::time::Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| part(self))) {
            let text =
                (panic.downcast_ref::<String>().cloned()).or(panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default();
            self.failures.push(format!("{name}: {text}"));
        }
        if began.elapsed().as_secs() >= 5 {
            println!("   ({name}: {} s)", began.elapsed().as_secs());
        }
    }

    /// One figure. The same name again is another round of it.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let name = name.into();
        println!("   {name:<80} {} {unit}", number(value));
        match self.lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.values.push(value),
            None => self.lines.push(Line { name, unit, values: vec![value] }),
        }
    }

    pub fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    pub fn table(&mut self) -> String {
        let mut text = format!("{}\n\n", self.heading);
        for line in &mut self.lines {
            line.values.sort_by(f64::total_cmp);
            let median = line.values[line.values.len() / 2];
            write!(text, "{:<80} {:>12} {:<10}", line.name, number(median), line.unit).expect("a string");
            if line.values.len() > 1 {
                let (least, most) = (line.values[0], line.values[line.values.len() - 1]);
                write!(text, " ({} … {})", number(least), number(most)).expect("a string");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        for failure in &self.failures {
            writeln!(text, "FAILED {failure}").expect("a string");
        }
        text
    }

    pub fn save(&self, table: &str) -> String {
        let directory = std::env::var("BENCH_RESULTS").unwrap_or_else(|_| ".".to_owned());
        let when = self.heading.lines().next().and_then(|line| line.rsplit(" · ").next()).unwrap_or("now");
        let path = format!("{directory}/{}.txt", when.replace(" UTC", "").replace(' ', "_").replace(':', ""));
        std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(&path, table)).expect("save the results");
        path
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && digit != '-' && (whole.len() - at) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}

fn machine(server: &Server) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        (text.lines().find(|line| line.starts_with(key))).and_then(|line| line.split(':').nth(1)).unwrap_or("?").trim().to_owned()
    };
    let memory = after(&read("/proc/meminfo"), "MemTotal").replace(" kB", "").parse::<f64>().unwrap_or(0.0);
    format!(
        "{} cores · {} · {:.0} GiB · PostgreSQL {} · fsync {} · synchronous_commit {} · shared_buffers {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        after(&read("/proc/cpuinfo"), "model name"),
        memory / 1024.0 / 1024.0,
        server.value("SHOW server_version").split(' ').next().unwrap_or_default(),
        server.value("SHOW fsync"),
        server.value("SHOW synchronous_commit"),
        server.value("SHOW shared_buffers"),
    )
}
