//! Instructions per message, compared with what is committed.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    arguments::Arguments,
    callgrind::{self, Counted, WORKS},
    contender::Contender,
    libraries,
};

/// A figure may be so much of the committed one.
const TOLERANCE: f64 = 1.05;

/// Instructions per message by contender and work: what is committed, for our engines.
#[derive(Debug, Serialize, Deserialize)]
struct Counts {
    /// Counts are comparable under the same compiler only.
    rustc: String,
    instructions: BTreeMap<String, BTreeMap<String, u64>>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.update && !arguments.filters.is_empty() {
        return Err("--update writes all figures: leave --filter out".into());
    }
    let committed = match &arguments.baseline {
        Some(path) if !arguments.update => Some(Counts::read(path)?),
        _ => None,
    };
    let rustc = callgrind::output(Command::new("rustc").arg("-V"))?.trim().to_owned();
    println!("instructions per message, {rustc}");
    print!("{:<33}", "");
    for work in WORKS {
        print!("{:<22}", work.to_string());
    }
    println!();
    let mut counts = Counts { rustc, instructions: BTreeMap::new() };
    let mut ours = Vec::new();
    let mut details = String::new();
    for contender in libraries::all()? {
        let names = [contender.engine(), contender.name()];
        if !arguments.selects(&names) || !(contender.is_ours() || arguments.raw) {
            continue;
        }
        let counted = callgrind::count(contender.name(), arguments.profiles.as_deref())?;
        print_row(&*contender, &counted, committed.as_ref());
        details.extend(counted.iter().map(|counted| {
            let head = format!("\n{}, {}: self cost, calls\n", contender.name(), counted.work);
            head + &counted.top(arguments.top)
        }));
        if contender.is_ours() {
            ours.push(contender.name().to_owned());
        }
        let by_work = counted.iter().map(|counted| (counted.work.to_string(), counted.each));
        counts.instructions.insert(contender.name().to_owned(), by_work.collect());
    }
    if counts.instructions.is_empty() {
        return Err("the filters leave nothing to count".into());
    }
    if arguments.top > 0 {
        print!("{details}");
    }
    if let Some(path) = &arguments.json {
        counts.write(path)?;
    }
    match (&arguments.baseline, committed) {
        (Some(path), Some(committed)) => {
            let is_whole = arguments.filters.is_empty();
            counts.compare(&committed, is_whole).map_err(|error| {
                format!("{}: {error}; UPDATE=1 .ci/instructions accepts it", path.display()).into()
            })
        }
        (Some(path), None) => {
            counts.instructions.retain(|name, _| ours.contains(name));
            counts.write(path)
        }
        (None, _) => Ok(()),
    }
}

fn print_row(contender: &dyn Contender, counted: &[Counted], committed: Option<&Counts>) {
    print!("{:<33}", contender.label());
    for Counted { work, each, .. } in counted {
        let before = committed.and_then(|counts| counts.of(contender.name(), &work.to_string()));
        let cell = match before {
            Some(before) => format!("{each} ({:+.1} %)", (growth(before, *each) - 1.0) * 100.0),
            None => each.to_string(),
        };
        print!("{cell:<22}");
    }
    println!();
}

fn growth(before: u64, now: u64) -> f64 {
    now as f64 / before as f64
}

impl Counts {
    fn of(&self, contender: &str, work: &str) -> Option<u64> {
        self.instructions.get(contender)?.get(work).copied()
    }

    /// # Errors
    /// What has grown too much, and, if all was counted, what is no longer counted.
    fn compare(&self, committed: &Self, is_whole: bool) -> Result<()> {
        if committed.rustc != self.rustc {
            println!("not compared: the committed figures are of {}", committed.rustc);
            return Ok(());
        }
        let mut faults = Vec::new();
        for (contender, works) in &committed.instructions {
            for (work, &before) in works {
                match self.of(contender, work) {
                    Some(now) if growth(before, now) > TOLERANCE => {
                        faults.push(format!("{contender}, {work}: {before} has become {now}"));
                    }
                    None if is_whole => faults.push(format!("{contender}, {work}: not counted")),
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
