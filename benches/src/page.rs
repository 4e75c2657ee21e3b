//! Two files in Markdown: the report of a run, and the page of the documentation.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Result, table::Table};

/// A new report. Each run replaces the parts that it measured.
const REPORT: &str = "\
# Report

`docs/reference/benchmarks.md` says what is measured and how to read it.

## Summary

<!-- begin summary --><!-- end summary -->

## Goals

<!-- begin goals --><!-- end goals -->

## Work

![ping-pong](ping-pong.svg)
![echoes](echo.svg)
![duplex](duplex.svg)
![receive](receive.svg)
![send](send.svg)
![feed](feed.svg)
![handshake](handshake.svg)

<!-- begin work --><!-- end work -->

## Sessions at once

![sessions](sessions.svg)

<!-- begin sessions --><!-- end sessions -->

## Fairness

![fairness](fairness.svg)

<!-- begin fairness --><!-- end fairness -->

## Memory

![memory](memory.svg)

<!-- begin memory --><!-- end memory -->

## Idle sessions

<!-- begin idle --><!-- end idle -->

## Servers

<!-- begin server --><!-- end server -->

## Instructions

<!-- begin instructions --><!-- end instructions -->

## Compile time and size

<!-- begin size --><!-- end size -->
";

/// The folder of the report, its plots and its figures: `benchmarks` in Cargo's target directory.
pub(crate) fn report_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| root().join("target")).join("benchmarks")
}

/// The page of the documentation.
pub(crate) fn docs_page() -> PathBuf {
    root().join("docs/reference/benchmarks.md")
}

/// The folder of the page's plots.
pub(crate) fn docs_folder() -> PathBuf {
    docs_page().with_extension("")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A page whose parts are between markers.
#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// The page of the documentation.
    pub(crate) fn docs() -> Result<Self> {
        let path = docs_page();
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Ok(Self { path, text })
    }

    /// The report, with the parts of earlier runs.
    pub(crate) fn report() -> Self {
        let path = report_folder().join("report.md");
        let text = fs::read_to_string(&path).unwrap_or_else(|_| REPORT.to_owned());
        Self { path, text }
    }

    /// Puts tables into the part of this name, after a line that says where they are from.
    pub(crate) fn put(&mut self, part: &str, origin: &str, tables: &[Table]) -> Result<()> {
        let tables: Vec<_> = tables.iter().map(Table::markdown).collect();
        let text = format!("{origin}\n\n{}", tables.join("\n"));
        self.text = replaced(&self.text, part, &text)?;
        Ok(())
    }

    pub(crate) fn write(self) -> Result<()> {
        Ok(fs::write(self.path, self.text)?)
    }
}

/// The page with something else between the markers of a part.
fn replaced(page: &str, part: &str, text: &str) -> Result<String> {
    let marker = |which: &str| format!("<!-- {which} {part} -->");
    let (before, rest) = page
        .split_once(&marker("begin"))
        .ok_or_else(|| format!("the page has no {}", marker("begin")))?;
    let (_, after) = rest
        .split_once(&marker("end"))
        .ok_or_else(|| format!("the page has no {}", marker("end")))?;
    Ok(format!("{before}{}\n{}\n{}{after}", marker("begin"), text.trim_end(), marker("end")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "# P\n<!-- begin a -->\nold\n<!-- end a -->\n<!-- begin b --><!-- end b -->\n";

    #[test]
    fn a_part_is_replaced_and_the_rest_is_kept() {
        let once = replaced(PAGE, "a", "new\n").expect("there is one");
        let expected = PAGE.replace("old", "new");
        assert_eq!(once, expected);
        assert_eq!(replaced(&once, "a", "new").expect("still"), expected);
    }

    #[test]
    fn a_missing_part_is_an_error() {
        assert!(replaced(PAGE, "c", "new").is_err());
        assert!(replaced("<!-- begin c -->", "c", "new").is_err());
    }

    #[test]
    fn the_report_has_every_part() {
        for part in crate::results::PARTS {
            assert!(replaced(REPORT, part, "").is_ok(), "{part}");
        }
    }

    #[test]
    fn the_page_of_the_documentation_has_the_summary_and_its_plots() {
        let page = Page::docs().expect("there is a page");
        assert!(replaced(&page.text, "summary", "").is_ok());
        for plot in crate::plots::IN_DOCS {
            let file = format!("benchmarks/{plot}.svg");
            assert!(page.text.contains(&format!("[{plot}.svg]: {file}")), "{file}");
            assert!(docs_page().with_file_name(&file).exists(), "{file}");
        }
    }
}
