//! `docs/reference/session-options.md` is the table of options. `UPDATE=1 cargo test --features full,testing --test reports
//! options_page` writes it anew.

use std::{fmt::Write as _, fs};

use drivetrain_session::{OPTIONS, SessionOption};

const PAGE: &str = "docs/reference/session-options.md";

const HEAD: &str = "\
# Options of a session

Each option is a method of the `WebSockets` plugin and of a WebSocket request: [how they combine][options.md]. Zero is
refused, and so is an option whose capability the engine lacks ([limitations][limitations.md]).

- *smallest*: of several values the smallest wins, wherever it is set. Other options: the request's value wins.
- *raw*: raw sessions apply the option, too.
- *engine*: some engines take the option on their value.

| option | type | default | meaning | capability | notes |
|---|---|---|---|---|---|
";

const TAIL: &str = "\
| `converter` | `Converter` | none | The converter of `send_serialized` and `receive_deserialized`. | | |
| `extension` | `Extension` | none | An extension, such as `PermessageDeflate`. Those of a request replace the plugin's. | extensions | |

[limitations.md]: limitations.md
[options.md]: ../explanation/options.md
";

#[test]
fn the_page_of_options_is_their_table() {
    let mut page = HEAD.to_owned();
    for SessionOption { name, takes, default, wins, needs, also, doc, .. } in OPTIONS {
        let takes = takes.replace(' ', "").replace("std::time::", "");
        let takes =
            takes.strip_prefix("implInto<").and_then(|it| it.strip_suffix('>')).unwrap_or(&takes);
        let smallest = (*wins == "smallest").then_some("smallest");
        let needs = needs.map_or("", |capability| capability.name());
        let notes: Vec<_> = smallest.into_iter().chain(also.iter().copied()).collect();
        let (meaning, notes) = (first_sentence(doc), notes.join(", "));
        writeln!(page, "| `{name}` | `{takes}` | {default} | {meaning} | {needs} | {notes} |")
            .expect("written");
    }
    page.push_str(TAIL);
    let path = super::root().join(PAGE);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).expect("written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "{PAGE} is out of date: run this test with UPDATE=1");
}

fn first_sentence(doc: &str) -> &str {
    let doc = doc.trim();
    doc.split_inclusive('.').next().unwrap_or(doc)
}
