//! Instructions per message, compared with what is committed.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    arguments::Arguments,
    callgrind::{self, WORKS},
    compare::Who,
    libraries, machine,
    table::Table,
    work::Work,
};

/// A figure may be so much of the committed one.
const TOLERANCE: f64 = 1.05;

/// Instructions per message by subject and work: what is committed, for our engines.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Counts are comparable under the same compiler only.
    rustc: String,
    instructions: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What was counted now.
#[derive(Debug)]
pub(crate) struct Instructions {
    pub(crate) counts: Counts,
    rows: Vec<Who>,
    committed: Option<Counts>,
    /// The costliest functions, if asked for.
    details: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Instructions> {
    if arguments.update && !arguments.filters.is_empty() {
        return Err("--update writes all figures: leave --filter out".into());
    }
    let committed = match &arguments.baseline {
        Some(path) if !arguments.update => Some(Counts::read(path)?),
        _ => None,
    };
    let mut counts = Counts { rustc: machine::rustc(), instructions: BTreeMap::new() };
    let mut rows = Vec::new();
    let mut details = String::new();
    for subject in libraries::counted()? {
        let who = Who::new(&*subject);
        let asked = arguments.selects(&[who.engine, &who.subject]);
        let works: Vec<_> = WORKS.into_iter().filter(|&work| subject.can(work)).collect();
        // With part of the work, it is on a runtime that another subject is counted on, too.
        let is_whole = subject.can(Work::PING_PONG) && subject.can(WORKS[0]);
        if !asked || !subject.counts() || !is_whole || !(who.is_ours || arguments.raw) {
            continue;
        }
        eprint!("\rinstructions: {:<40}", who.subject);
        let counted = callgrind::count(&who.subject, &works, arguments.profiles.as_deref())?;
        details.extend(counted.iter().map(|counted| {
            let head = format!("\n{}, {}: self cost, calls\n", who.subject, counted.work);
            head + &counted.top(arguments.top)
        }));
        let by_work = counted.iter().map(|counted| (counted.work.to_string(), counted.each));
        counts.instructions.insert(who.subject.clone(), by_work.collect());
        rows.push(who);
    }
    eprintln!();
    if rows.is_empty() {
        return Err("the filters leave nothing to count".into());
    }
    if arguments.top == 0 {
        details.clear();
    }
    Ok(Instructions { counts, rows, committed, details })
}

impl Instructions {
    pub(crate) fn table(&self) -> Table {
        let mut columns = vec!["instructions a message".to_owned()];
        columns.extend(WORKS.map(|work| work.to_string()));
        let rows = self.rows.iter().map(|who| {
            let cell = |work: Work| {
                let (name, work) = (who.subject.as_str(), work.to_string());
                let Some(each) = self.counts.of(name, &work) else { return String::new() };
                let before = self.committed.as_ref().and_then(|counts| counts.of(name, &work));
                before.map_or_else(
                    || each.to_string(),
                    |before| format!("{each} ({:+.1} %)", (growth(before, each) - 1.0) * 100.0),
                )
            };
            std::iter::once(who.label()).chain(WORKS.map(cell)).collect()
        });
        Table { columns, rows: rows.collect() }
    }

    /// For each engine and raw library beside it: how many more instructions the engine takes.
    pub(crate) fn above_raw(&self, work: Work) -> Vec<(String, f64)> {
        let work = work.to_string();
        let mut above = Vec::new();
        for raw in &self.rows {
            let Some(ours) = self.rows.iter().find(|row| row.is_beside(raw)) else { continue };
            let (ours, raw) = (&ours.subject, &raw.subject);
            if let (Some(more), Some(less)) =
                (self.counts.of(ours, &work), self.counts.of(raw, &work))
            {
                above.push((format!("{ours} / {raw}"), more as f64 - less as f64));
            }
        }
        above
    }

    /// Prints the costliest functions; compares with what is committed, or writes it.
    pub(crate) fn conclude(mut self, arguments: &Arguments) -> Result<()> {
        print!("{}", self.details);
        let Some(path) = &arguments.baseline else { return Ok(()) };
        if let Some(committed) = &self.committed {
            let is_whole = arguments.filters.is_empty();
            return self.counts.compare(committed, is_whole).map_err(|error| {
                format!("{}: {error}; UPDATE=1 .ci/instructions accepts it", path.display()).into()
            });
        }
        let is_ours = |name: &str| self.rows.iter().any(|who| who.is_ours && who.subject == name);
        self.counts.instructions.retain(|name, _| is_ours(name));
        self.counts.write(path)
    }
}

fn growth(before: u64, now: u64) -> f64 {
    now as f64 / before as f64
}

impl Counts {
    /// That of this subject for this work.
    pub(crate) fn of(&self, subject: &str, work: &str) -> Option<u64> {
        self.instructions.get(subject)?.get(work).copied()
    }

    /// # Errors
    /// What has grown too much, and, if all was counted, what is no longer counted.
    fn compare(&self, committed: &Self, is_whole: bool) -> Result<()> {
        if committed.rustc != self.rustc {
            println!("not compared: the committed figures are of {}", committed.rustc);
            return Ok(());
        }
        let mut faults = Vec::new();
        for (subject, works) in &committed.instructions {
            for (work, &before) in works {
                match self.of(subject, work) {
                    Some(now) if growth(before, now) > TOLERANCE => {
                        faults.push(format!("{subject}, {work}: {before} has become {now}"));
                    }
                    None if is_whole => faults.push(format!("{subject}, {work}: not counted")),
                    _ => {}
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
    }

    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }

    fn write(&self, path: &Path) -> Result<()> {
        Ok(fs::write(path, serde_json::to_string_pretty(self)? + "\n")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rustc: &str, figures: &[(&str, u64)]) -> Counts {
        let works = figures.iter().map(|&(work, count)| (work.to_owned(), count)).collect();
        let instructions = BTreeMap::from([("smol".to_owned(), works)]);
        Counts { rustc: rustc.to_owned(), instructions }
    }

    #[test]
    fn more_than_five_percent_is_a_fault_under_the_same_compiler() {
        let committed = counts("1.95", &[("send", 1000)]);
        assert!(counts("1.95", &[("send", 1050)]).compare(&committed, true).is_ok());
        assert!(counts("1.95", &[("send", 1051)]).compare(&committed, true).is_err());
        assert!(counts("1.96", &[("send", 1051)]).compare(&committed, true).is_ok());
    }

    #[test]
    fn what_is_no_longer_counted_is_a_fault() {
        let committed = counts("1.95", &[("send", 1000), ("receive", 1)]);
        let now = counts("1.95", &[("send", 1000)]);
        assert!(now.compare(&committed, true).is_err());
        assert!(now.compare(&committed, false).is_ok());
    }
}
