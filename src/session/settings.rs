//! Every option with its effective value, who set it, and who applies it.

use std::{borrow::Cow, fmt};

/// The options in force: the answer of `client.settings()` and `session.settings()`.
///
/// `Display` prints a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<Setting>);

/// One option in force.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Its name, as the method that sets it is called.
    pub name: Cow<'static, str>,
    /// Its effective value, to be read by people.
    pub value: Cow<'static, str>,
    /// Who set it.
    pub set_by: SetBy,
    /// Who applies it.
    pub applied_by: AppliedBy,
    /// What the reader should know besides.
    pub note: Option<Cow<'static, str>>,
}

/// Who set an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SetBy {
    /// Nobody: it is the default.
    Default,
    /// The builder of the client.
    Client,
    /// A plugin installed on the client.
    Plugin,
    /// The engine value, or the preconfigured object in it.
    Engine,
    /// The request.
    Request,
}

/// Who applies an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AppliedBy {
    /// The session.
    Session,
    /// The client, before the engine is called.
    Client,
    /// The engine.
    Engine,
    /// Nobody: a default that this engine cannot honour. The note says why.
    Nobody,
}

impl Settings {
    /// The option of this name.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.0.iter().find(|setting| setting.name == name)
    }

    /// All options, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter()
    }

    pub(crate) fn push(&mut self, setting: Setting) {
        self.0.push(setting);
    }
}

impl Setting {
    pub(crate) fn new(
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
        set_by: SetBy,
        applied_by: AppliedBy,
    ) -> Self {
        Self { name: name.into(), value: value.into(), set_by, applied_by, note: None }
    }

    pub(crate) fn with_note(mut self, note: Option<Cow<'static, str>>) -> Self {
        self.note = note;
        self
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |setting: &Setting| {
            [
                setting.name.to_string(),
                setting.value.to_string(),
                format!("{:?}", setting.set_by).to_lowercase(),
                format!("{:?}", setting.applied_by).to_lowercase(),
                setting.note.as_deref().unwrap_or_default().to_owned(),
            ]
        };
        let head = ["option", "value", "set by", "applied by", "note"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(self.0.iter().map(cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; 4] = std::array::from_fn(width);
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            line.push_str(&row[4]);
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
