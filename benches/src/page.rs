//! The page in the repository: what was measured goes between its markers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Result, table::Table};

/// Where the page is.
pub(crate) fn path() -> PathBuf {
    docs().join("benchmarks.md")
}

/// Where its plots and its figures are.
pub(crate) fn folder() -> PathBuf {
    docs().join("benchmarks")
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs")
}

/// A page that is being written anew.
#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Ok(Self { path, text })
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
    fn the_page_has_every_part() {
        let page = fs::read_to_string(path()).expect("there is a page");
        for part in crate::results::PARTS {
            assert!(replaced(&page, part, "").is_ok(), "{part}");
        }
    }
}
