//! The results of one run: printed, as JSON, and as a report.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

#[cfg(feature = "server")]
use crate::servers::Servers;
use crate::{
    Result,
    arguments::Arguments,
    compare::Compared,
    fairness::Fairness,
    goals,
    idle::Idle,
    instructions::Instructions,
    machine::Machine,
    memory::Memory,
    page::{self, Page},
    plots,
    sessions::Sessions,
    size::Sizes,
    summary,
    table::Table,
};

/// The parts of the report.
#[cfg(test)]
pub(crate) const PARTS: [&str; 10] = [
    "summary",
    "goals",
    "work",
    "sessions",
    "fairness",
    "memory",
    "idle",
    "server",
    "instructions",
    "size",
];

#[derive(Debug)]
pub(crate) struct Results {
    machine: Machine,
    pub(crate) work: Option<Compared>,
    pub(crate) sessions: Option<Sessions>,
    pub(crate) fairness: Option<Fairness>,
    pub(crate) memory: Option<Memory>,
    pub(crate) idle: Option<Idle>,
    #[cfg(feature = "server")]
    pub(crate) servers: Option<Servers>,
    pub(crate) instructions: Option<Instructions>,
    pub(crate) size: Option<Sizes>,
}

impl Results {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            machine: Machine::this(),
            work: None,
            sessions: None,
            fairness: None,
            memory: None,
            idle: None,
            #[cfg(feature = "server")]
            servers: None,
            instructions: None,
            size: None,
        }
    }

    /// Each part that was measured, with its tables.
    fn parts(&self) -> Vec<(&'static str, Vec<Table>)> {
        let goals = goals::goals(self);
        let parts = [
            ("work", self.work.as_ref().map(Compared::tables)),
            ("sessions", self.sessions.as_ref().map(Sessions::tables)),
            ("fairness", self.fairness.as_ref().map(Fairness::tables)),
            ("memory", self.memory.as_ref().map(|part| vec![part.table()])),
            ("idle", self.idle.as_ref().map(|part| vec![part.table()])),
            #[cfg(feature = "server")]
            ("server", self.servers.as_ref().map(Servers::tables)),
            ("instructions", self.instructions.as_ref().map(|part| vec![part.table()])),
            ("size", self.size.as_ref().map(|part| vec![part.table()])),
            ("summary", self.summary().map(|table| vec![table])),
            ("goals", (!goals.is_empty()).then(|| vec![goals::table(&goals)])),
        ];
        parts.into_iter().filter_map(|(name, tables)| Some((name, tables?))).collect()
    }

    fn summary(&self) -> Option<Table> {
        Some(summary::table(self.work.as_ref()?, self.memory.as_ref()?))
    }

    fn json(&self) -> Result<Value> {
        let mut all = Map::new();
        all.insert("machine".into(), serde_json::to_value(&self.machine)?);
        let parts = [
            ("work", self.work.as_ref().map(Compared::json)),
            ("sessions", self.sessions.as_ref().map(Sessions::json)),
            ("fairness", self.fairness.as_ref().map(|part| Ok(json!(part.rows)))),
            ("memory", self.memory.as_ref().map(|part| Ok(json!(part)))),
            ("idle", self.idle.as_ref().map(|part| Ok(json!(part)))),
            #[cfg(feature = "server")]
            ("server", self.servers.as_ref().map(|part| Ok(json!(part)))),
            ("instructions", self.instructions.as_ref().map(|part| Ok(json!(part.counts)))),
            ("size", self.size.as_ref().map(|part| Ok(json!(part)))),
            ("goals", Some(Ok(json!(goals::goals(self))))),
        ];
        for (name, part) in parts {
            if let Some(part) = part {
                all.insert(name.into(), part?);
            }
        }
        Ok(Value::Object(all))
    }

    /// Prints the results, and writes the requested files.
    pub(crate) fn give(&self, arguments: &Arguments) -> Result<()> {
        println!("{}\nmedian (min–max); e/t: engine / this, round by round\n", self.machine);
        for (_, tables) in self.parts() {
            for table in tables {
                println!("{table}");
            }
        }
        if let Some(path) = &arguments.json {
            self.write_json(path)?;
        }
        if arguments.page {
            self.write_report(arguments)?;
        }
        if arguments.docs {
            self.write_docs(arguments)?;
        }
        Ok(())
    }

    fn write_json(&self, path: &Path) -> Result<()> {
        Ok(fs::write(path, serde_json::to_string_pretty(&self.json()?)? + "\n")?)
    }

    fn write_report(&self, arguments: &Arguments) -> Result<()> {
        let origin = self.origin(arguments);
        let folder = page::report_folder();
        fs::create_dir_all(&folder)?;
        let mut report = Page::report();
        for (name, tables) in self.parts() {
            // A filtered run does not replace the parts that summarise all rows.
            let is_partial = self.work.is_none() || !arguments.filters.is_empty();
            if !(is_partial && ["summary", "goals"].contains(&name)) {
                report.put(name, &origin, &tables)?;
            }
        }
        report.write()?;
        plots::draw(self, &folder)?;
        self.write_json(&folder.join(format!("{}.json", arguments.mode.name())))?;
        eprintln!("the report is in {}", folder.display());
        Ok(())
    }

    fn write_docs(&self, arguments: &Arguments) -> Result<()> {
        let summary = self.summary().filter(|_| arguments.filters.is_empty());
        let summary = summary.ok_or("--docs needs work and memory, without a filter")?;
        let mut page = Page::docs()?;
        page.put("summary", &self.origin(arguments), &[summary])?;
        page.write()?;
        let report = page::report_folder();
        fs::create_dir_all(&report)?;
        plots::draw(self, &report)?;
        for plot in plots::IN_DOCS {
            let file = format!("{plot}.svg");
            fs::copy(report.join(&file), page::docs_folder().join(&file))?;
        }
        Ok(())
    }

    fn origin(&self, arguments: &Arguments) -> String {
        format!("`{}`: {}", arguments.command(), self.machine)
    }
}
