//! Everything that one run of the program has measured: printed, as JSON, and for the page.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

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
    table::Table,
};

/// The parts of the page.
#[cfg(test)]
pub(crate) const PARTS: [&str; 8] =
    ["goals", "work", "sessions", "fairness", "memory", "idle", "instructions", "size"];

#[derive(Debug)]
pub(crate) struct Results {
    machine: Machine,
    pub(crate) work: Option<Compared>,
    pub(crate) sessions: Option<Sessions>,
    pub(crate) fairness: Option<Fairness>,
    pub(crate) memory: Option<Memory>,
    pub(crate) idle: Option<Idle>,
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
            ("instructions", self.instructions.as_ref().map(|part| vec![part.table()])),
            ("size", self.size.as_ref().map(|part| vec![part.table()])),
            ("goals", (!goals.is_empty()).then(|| vec![goals::table(&goals)])),
        ];
        parts.into_iter().filter_map(|(name, tables)| Some((name, tables?))).collect()
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

    /// Prints it, and writes what is asked for.
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
            self.write_page(arguments)?;
        }
        Ok(())
    }

    fn write_json(&self, path: &Path) -> Result<()> {
        Ok(fs::write(path, serde_json::to_string_pretty(&self.json()?)? + "\n")?)
    }

    fn write_page(&self, arguments: &Arguments) -> Result<()> {
        let origin = format!("`{}`: {}", arguments.command(), self.machine);
        let mut page = Page::open(page::path())?;
        for (name, tables) in self.parts() {
            // A part of the goals does not replace all of them.
            if name != "goals" || self.work.is_some() {
                page.put(name, &origin, &tables)?;
            }
        }
        page.write()?;
        let folder = page::folder();
        fs::create_dir_all(&folder)?;
        plots::draw(self, &folder)?;
        self.write_json(&folder.join(format!("{}.json", arguments.mode.name())))
    }
}
