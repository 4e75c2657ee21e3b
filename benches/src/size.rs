//! What a program costs to compile, and how large it becomes: clean builds, one after the other.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde::Serialize;

use crate::{Result, arguments::Arguments, callgrind::output, table::Table};

struct Program {
    what: &'static str,
    package: &'static str,
    features: Option<&'static str>,
    /// `--bin` or `--example`, and its name.
    target: [&'static str; 2],
}

const PROGRAMS: [Program; 4] = [
    Program {
        what: "  tokio-tungstenite",
        package: "drivetrain-size",
        features: Some("bare"),
        target: ["--bin", "echo-bare"],
    },
    Program {
        what: "  tokio-tungstenite, rustls",
        package: "drivetrain-size",
        features: Some("bare-rustls"),
        target: ["--bin", "echo-bare"],
    },
    Program {
        what: "drivetrain, the same program",
        package: "drivetrain-size",
        features: Some("facade"),
        target: ["--bin", "echo-facade"],
    },
    Program {
        what: "drivetrain, examples/echo",
        package: "drivetrain",
        features: None,
        target: ["--example", "echo"],
    },
];

#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    /// Of the package with its features, itself left out.
    dependencies: usize,
    clean_build_seconds: f64,
    bytes: u64,
    stripped_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Sizes {
    rows: Vec<Row>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Sizes> {
    let folder = folder();
    let mut rows = Vec::new();
    for program in PROGRAMS.into_iter().filter(|program| arguments.selects(&[program.what])) {
        eprintln!("building {} in release mode", program.what.trim_start());
        let row = program.measure(&folder);
        // Each begins with nothing, and the disk may be short.
        fs::remove_dir_all(&folder)?;
        rows.push(row?);
    }
    Ok(Sizes { rows })
}

/// Beside other builds.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| repository().join("target")).join("size")
}

fn repository() -> &'static Path {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
    benches.parent().unwrap_or(benches)
}

impl Program {
    fn measure(&self, folder: &Path) -> Result<Row> {
        let tree = output(
            self.cargo("tree", folder)
                .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"]),
        )?;
        let dependencies = packages(&tree).saturating_sub(1);
        fs::create_dir_all(folder)?;
        let start = Instant::now();
        output(self.cargo("build", folder).arg("--release").args(self.target))?;
        let clean_build_seconds = start.elapsed().as_secs_f64();
        let binary = match self.target {
            ["--example", name] => folder.join("release/examples").join(name),
            [_, name] => folder.join("release").join(name),
        };
        let bytes = fs::metadata(&binary)?.len();
        // Links once more.
        let mut stripped = self.cargo("rustc", folder);
        stripped.arg("--release").args(self.target).args(["--", "-C", "strip=symbols"]);
        output(&mut stripped)?;
        let stripped_bytes = fs::metadata(&binary)?.len();
        let what = self.what;
        Ok(Row { what, dependencies, clean_build_seconds, bytes, stripped_bytes })
    }

    fn cargo(&self, command: &str, folder: &Path) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(repository()).env("CARGO_TARGET_DIR", folder);
        cargo.args([command, "--quiet", "--locked", "-p", self.package]);
        if let Some(features) = self.features {
            cargo.args(["--features", features]);
        }
        cargo
    }
}

/// How many different packages `cargo tree` lists.
fn packages(tree: &str) -> usize {
    let packages = tree.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?))
    });
    packages.collect::<BTreeSet<_>>().len()
}

impl Sizes {
    pub(crate) fn table(&self) -> Table {
        let columns =
            ["program", "dependencies", "clean release build, s", "binary, KiB", "stripped, KiB"];
        let mut table = Table::new(columns);
        for row in &self.rows {
            table.row([
                row.what.to_owned(),
                row.dependencies.to_string(),
                format!("{:.1}", row.clean_build_seconds),
                (row.bytes / 1024).to_string(),
                (row.stripped_bytes / 1024).to_string(),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_once_for_each_version() {
        let tree = "a v0.1.0 (/a)\nb v1.0.0\nb v2.0.0\nb v1.0.0 (*)\nc v1.0.0 (proc-macro)\n";
        assert_eq!(packages(tree), 4);
    }
}
