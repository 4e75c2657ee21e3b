//! Every option with its value in force, its origin, and the party that applies it.

use std::{borrow::Cow, fmt};

use drivetrain_engine::NativeSetting;

/// The options in force: the answer of `settings()` on a client, a server and a session.
///
/// `Display` prints a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<Setting>);

/// One option in force.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// The name of the option and of the method that sets it.
    pub name: Cow<'static, str>,
    /// The value in force, in words.
    pub value: Cow<'static, str>,
    /// The origin of the value.
    pub set_by: SetBy,
    /// The party that applies it.
    pub applied_by: AppliedBy,
    /// A note, for example why the engine cannot apply it.
    pub note: Option<Cow<'static, str>>,
}

/// The origin of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SetBy {
    /// Nobody: it is the default.
    Default,
    /// The builder of the client.
    Client,
    /// The builder of the server.
    Server,
    /// A plugin installed on the client or the server.
    Plugin,
    /// The engine value, or the preconfigured object in it.
    Engine,
    /// The client's request.
    Request,
    /// The server's route.
    Route,
}

/// The party that applies an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AppliedBy {
    /// The session.
    Session,
    /// The client, before it calls the engine.
    Client,
    /// The server, before the session begins.
    Server,
    /// The engine.
    Engine,
    /// Nobody: this engine cannot honour the default. The note says why.
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

    /// Adds a row at the end.
    pub fn push(&mut self, setting: Setting) {
        self.0.push(setting);
    }
}

impl Setting {
    /// An option without a note.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
        set_by: SetBy,
        applied_by: AppliedBy,
    ) -> Self {
        Self { name: name.into(), value: value.into(), set_by, applied_by, note: None }
    }

    /// The same option with this note.
    #[must_use]
    pub fn with_note(mut self, note: Option<Cow<'static, str>>) -> Self {
        self.note = note;
        self
    }
}

/// An engine's own setting, which the engine applies.
impl From<NativeSetting> for Setting {
    fn from(native: NativeSetting) -> Self {
        let set_by = if native.is_default { SetBy::Default } else { SetBy::Engine };
        Self::new(native.name, native.value, set_by, AppliedBy::Engine).with_note(native.note)
    }
}

impl Extend<Setting> for Settings {
    fn extend<I: IntoIterator<Item = Setting>>(&mut self, settings: I) {
        self.0.extend(settings);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_order_and_print_as_a_table() {
        let mut settings = Settings::default();
        assert_eq!((settings.iter().count(), settings.get("b")), (0, None));
        let row = |name: &'static str, value: &'static str| {
            Setting::new(name, value, SetBy::Plugin, AppliedBy::Session)
        };
        settings.push(row("b", "1 s").with_note(Some("why".into())));
        settings.extend([
            row("a", "off"),
            NativeSetting::new("c", "7").as_default().into(),
            NativeSetting::new("d", "8").into(),
        ]);
        let names: Vec<_> = settings.iter().map(|row| &*row.name).collect();
        assert_eq!(names, ["b", "a", "c", "d"]);
        assert_eq!(settings.get("b").and_then(|row| row.note.as_deref()), Some("why"));
        let by = |name| settings.get(name).map(|row| (row.set_by, row.applied_by));
        assert_eq!(by("c"), Some((SetBy::Default, AppliedBy::Engine)));
        assert_eq!(by("d"), Some((SetBy::Engine, AppliedBy::Engine)));
        let table = settings.to_string();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], "option  value  set by   applied by  note");
        assert_eq!(lines[1], "b       1 s    plugin   session     why");
        assert_eq!(lines[3], "c       7      default  engine");
    }
}
