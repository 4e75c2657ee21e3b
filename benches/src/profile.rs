//! A profile in callgrind's format: the self cost of each function.

use std::{collections::HashMap, fs, path::Path};

use crate::Result;

/// One dump of callgrind's counters. (`callgrind_annotate` cannot be asked: in a dump that was written
/// while the program runs, it takes the calls that have not returned for costs of their callers.)
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) total: u64,
    /// The instructions of each function without those that it calls, and how often it was called.
    functions: HashMap<String, (u64, u64)>,
}

impl Profile {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("callgrind wrote no {}: {error}", path.display()))?;
        Self::parse(&text)
    }

    /// <https://valgrind.org/docs/manual/cl-format.html>: a name is written once and then goes by its
    /// number; the line after a `calls=` is the cost of the callee.
    fn parse(text: &str) -> Result<Self> {
        let mut names: HashMap<&str, &str> = HashMap::new();
        let mut costs: HashMap<&str, (u64, u64)> = HashMap::new();
        let (mut function, mut callee, mut is_call) = ("", "", false);
        let mut total = None;
        for line in text.lines() {
            match line.split_once('=') {
                Some((kind @ ("fn" | "cfn"), name)) => {
                    let (number, name) = name.split_once(' ').unwrap_or((name, ""));
                    if !name.is_empty() {
                        names.insert(number, name);
                    }
                    *(if kind == "fn" { &mut function } else { &mut callee }) = number;
                }
                Some(("calls", calls)) => {
                    let calls: u64 = calls.split(' ').next().unwrap_or_default().parse()?;
                    costs.entry(callee).or_default().1 += calls;
                    is_call = true;
                }
                Some(_) => {}
                None if line
                    .starts_with(|start: char| start.is_ascii_digit() || "+-*".contains(start)) =>
                {
                    let cost = line.split(' ').nth(1).ok_or("a cost without a number")?;
                    if !std::mem::take(&mut is_call) {
                        costs.entry(function).or_default().0 += cost.parse::<u64>()?;
                    }
                }
                None => {
                    let sum =
                        line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:"));
                    total = sum.map(|sum| sum.trim().parse()).transpose()?.or(total);
                }
            }
        }
        let mut functions: HashMap<String, (u64, u64)> = HashMap::new();
        for (number, (cost, calls)) in costs {
            // A function that calls itself is listed apart as its second and so on.
            let name = names.get(number).copied().unwrap_or("?");
            let name = name.rsplit_once('\'').map_or(name, |(name, _)| name);
            let known = functions.entry(name.to_owned()).or_default();
            *known = (known.0 + cost, known.1 + calls);
        }
        Ok(Self { total: total.ok_or("a profile without its total")?, functions })
    }

    /// The costliest functions, with instructions and calls per message.
    pub(crate) fn top(&self, count: usize, messages: usize) -> Vec<(&str, f64, f64)> {
        let each = |number: u64| number as f64 / messages as f64;
        let functions = self.functions.iter();
        let mut all: Vec<_> = functions
            .map(|(name, &(cost, calls))| (name.as_str(), each(cost), each(calls)))
            .collect();
        all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_costs_its_callee_only() {
        let text = "events: Ir\nsummary: 42\n\nfn=(1) main\n10 2\ncfn=(2) work\ncalls=4 7\n10 40\n\n\
                    fn=(2)\n7 30\n+1 8\nfn=(3) work'2\n* 2\n";
        let profile = Profile::parse(text).expect("valid");
        assert_eq!(profile.total, 42);
        assert_eq!(profile.top(9, 4), [("work", 10.0, 1.0), ("main", 0.5, 0.0)]);
    }
}
