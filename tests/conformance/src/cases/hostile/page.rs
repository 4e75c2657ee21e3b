//! The table in Markdown.

use std::collections::BTreeSet;

use super::{
    parts,
    table::{End, Over, Row},
};

/// The suite's hostile peers and the result of each, as a page in Markdown. The cases use the same table.
pub fn page() -> String {
    let parts = parts();
    let rows = || parts.iter().flat_map(|(_, rows)| rows);
    let count = rows().count();
    let scripts: usize = rows().map(Row::scripts).sum();
    let mut page = format!(
        "# Hostile peers\n\n\
         Each of these {count} rows is a case of the conformance suite, on every engine. A case has one \
         peer, or several peers with the same result, such as one peer for every split of its bytes: \
         {scripts} in all. The suite builds the cases from the same table as this page. The peers that are \
         bytes are run against each server too, as clients.\n\n\
         - **error**: the error kind of `receive()` and `send()` from then on, or of `connect()` without a \
         session.\n\
         - **Close on the wire**: the code of the only Close that the peer receives, as the last frame.\n\
         - **`outcome()`**: `clean` or not, with the codes of `sent` and `received`. A refused peer may \
         answer our Close; `received` is that code if the answer is recognisable.\n"
    );
    let mut deviations = BTreeSet::new();
    for (title, rows) in &parts {
        page.push_str(&format!(
            "\n## {title}\n\n| peer | error | Close on the wire | `outcome()` |\n| --- | --- | --- | --- |\n"
        ));
        for row in rows {
            page.push_str(&line(&row.name, row.end));
            deviations.extend(row.deviation.map(|(deviation, end)| {
                line(&row.name, end).replacen("| ", &format!("| {deviation} | "), 1)
            }));
        }
    }
    page.push_str(
        "\n## Deviations\n\n\
         [Limitations][limitations.md#deviations] lists the engines and their reasons.\n\n\
         | deviation | peer | error | Close on the wire | `outcome()` |\n| --- | --- | --- | --- | --- |\n",
    );
    page.extend(deviations);
    page.push_str("\n[limitations.md#deviations]: limitations.md#deviations\n");
    page
}

fn line(name: &str, end: End) -> String {
    let (error, wire, outcome) = match end {
        End::Open => ("none".into(), "none".into(), "the session stays open".into()),
        End::NoSession(kind) => {
            (format!("`{kind:?}` of `connect()`"), "none".into(), "no session".into())
        }
        End::Over(over) => over_columns(over),
    };
    format!("| `{name}` | {error} | {wire} | {outcome} |\n")
}

fn over_columns(over: Over) -> (String, String, String) {
    let code = |code: Option<u16>| code.map_or("none".into(), |code| code.to_string());
    let error = over.kind.map_or("none".into(), |kind| format!("`{kind:?}`"));
    let clean = if over.kind.is_none() { "clean" } else { "not clean" };
    let mut received = code(over.received);
    if over.may_receive() != over.received {
        received.push_str(&format!(" or {}", code(over.may_receive())));
    }
    let outcome = format!("{clean}, sent {}, received {received}", code(over.sent));
    (error, code(over.wire), outcome)
}
