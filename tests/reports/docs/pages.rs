//! Links, paths, size and tests of the pages.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{files, read, root};

/// The text without its blocks of code.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).expect("UTF-8");
    text.split("```").step_by(2).collect()
}

/// The targets of all links to files: inline ones, and the definitions at the end of a page.
fn links(page: &Path) -> Vec<String> {
    let prose = prose(page);
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split([')', '\n']).next());
    let defined = prose.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    let targets = inline.chain(defined.map(|(_, target)| target)).map(str::to_owned);
    targets.filter(|target| !target.starts_with("http") && !target.starts_with('#')).collect()
}

/// Every page that a reader finds in the repository.
fn pages() -> Vec<PathBuf> {
    let names = ["README.md", "CONTRIBUTING.md", "SECURITY.md"];
    let mut pages: Vec<_> = names.iter().map(|name| root().join(name)).collect();
    pages.extend(files(&root().join("docs"), ".md"));
    pages
}

/// The heading's name in a link, as GitHub and rustdoc make it.
fn anchor(heading: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || [' ', '-', '_'].contains(&c);
    heading.trim().to_lowercase().chars().filter(|&c| kept(c)).collect::<String>().replace(' ', "-")
}

#[test]
fn links_of_pages_lead_to_files_and_headings() {
    let mut followed = 0;
    for page in pages() {
        for link in links(&page) {
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = page.with_file_name(file);
            assert!(target.exists(), "{}: {link}", page.display());
            if !heading.is_empty() {
                let text = prose(&target);
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                let found = headings.any(|line| anchor(line.trim_start_matches('#')) == heading);
                assert!(found, "{}: {link}", page.display());
            }
            followed += 1;
        }
    }
    assert!(followed >= 100, "{followed}");
}

/// `docs/README.md` leads to every page, and `docs/adr/README.md` to every decision.
#[test]
fn every_page_is_on_a_map() {
    let docs = root().join("docs");
    let maps = [docs.join("README.md"), docs.join("adr/README.md")];
    let listed: BTreeSet<_> = maps
        .iter()
        .flat_map(|map| links(map).into_iter().map(|link| map.with_file_name(link)))
        .collect();
    for page in files(&docs, ".md").iter().filter(|page| !maps.contains(page)) {
        assert!(listed.contains(page), "{} is on no map", page.display());
    }
}

/// A link of a page in `cargo doc` goes to the page there, by the definition in `src/guide/links.md`.
#[test]
fn links_of_the_guide_are_defined_for_rustdoc() {
    let labels = |text: &str| -> BTreeSet<String> {
        let defined = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
        defined.map(|(label, _)| label.to_owned()).collect()
    };
    let defined = labels(&read("src/guide/links.md"));
    let guide = read("src/guide.rs");
    let included = guide.split('"').filter(|path| path.ends_with(".md") && path.contains('/'));
    for path in included.filter(|path| *path != "guide/links.md") {
        for label in labels(&read(Path::new("docs").join(path))) {
            assert!(defined.contains(&label), "docs/{path}: {label} is not in src/guide/links.md");
        }
    }
}

/// `path/to/file.rs` in a page is a file of the repository.
#[test]
fn files_that_the_map_names_exist() {
    let folders = ["core/", "engines/", "src/", "tests/", "docs/", "benches/", "fuzz/", ".ci/"];
    let mut named = 0;
    for page in ["docs/README.md", "docs/explanation/architecture.md", "CONTRIBUTING.md"] {
        let text = prose(&root().join(page));
        let quoted = text.split('`').skip(1).step_by(2);
        for path in quoted.filter(|path| folders.iter().any(|folder| path.starts_with(folder))) {
            let path = path.split(' ').next().unwrap_or_default();
            assert!(root().join(path).exists(), "{page}: {path}");
            named += 1;
        }
    }
    assert!(named >= 60, "{named}");
}

/// Two screens, of prose and code. Reference is looked up.
#[test]
fn pages_to_read_have_at_most_two_screens() {
    const LINES: usize = 120;
    for kind in ["tutorial", "how-to", "explanation"] {
        for page in files(&root().join("docs").join(kind), ".md") {
            let text = fs::read_to_string(&page).expect("UTF-8");
            let lines = text.lines().filter(|line| !line.starts_with('[')).count();
            assert!(lines <= LINES, "{}: {lines} lines", page.display());
        }
    }
}

/// The tests that pages show are those of `examples.rs`.
#[test]
fn the_tests_on_the_pages_are_run() {
    let examples = read("tests/reports/docs/examples.rs");
    for page in ["docs/tutorial/first-session.md", "docs/how-to/test-a-program.md"] {
        let text = read(page);
        let (_, test) = text.split_once("#[tokio::test]").expect("a test");
        let (test, _) = test.split_once("```").expect("an end");
        let (_, code) = test.split_once("async fn").expect("a function");
        assert!(examples.contains(code), "{page}: examples.rs has another test");
    }
}

/// The published crates of the workspace, each with its folder and the crates of ours that it imports.
fn crates() -> String {
    let manifest = read("Cargo.toml");
    let (_, members) = manifest.split_once("members = [").expect("members");
    let (members, _) = members.split_once(']').expect("an end");
    let folders = members.split('"').skip(1).step_by(2);
    let mut table = String::from("| crate | folder | imports |\n| --- | --- | --- |\n");
    for folder in std::iter::once(".").chain(folders) {
        let manifest = read(Path::new(folder).join("Cargo.toml"));
        if manifest.contains("\npublish = false") {
            continue;
        }
        let (_, name) = manifest.split_once("name = \"").expect("a name");
        let (name, _) = name.split_once('"').expect("an end");
        let (_, dependencies) = manifest.split_once("\n[dependencies]\n").expect("dependencies");
        let (dependencies, _) = dependencies.split_once("\n[").unwrap_or((dependencies, ""));
        let ours = dependencies.lines().filter(|line| line.starts_with("drivetrain"));
        let mut ours: Vec<_> = ours
            .map(|line| {
                let name = line.split(['.', ' ']).next().unwrap_or_default();
                let is_optional = line.contains("optional = true");
                if is_optional { format!("(`{name}`)") } else { format!("`{name}`") }
            })
            .collect();
        ours.sort();
        let folder = if folder == "." { "src" } else { folder };
        table.push_str(&format!("| `{name}` | `{folder}` | {} |\n", ours.join(", ")));
    }
    table
}

#[test]
fn the_table_of_crates_is_the_manifests() {
    let page = read("docs/reference/crates.md");
    let (before, rest) = page.split_once("<!-- begin crates -->\n").expect("the table's begin");
    let (_, after) = rest.split_once("<!-- end crates -->").expect("the table's end");
    let expected = format!("{before}<!-- begin crates -->\n{}<!-- end crates -->{after}", crates());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join("docs/reference/crates.md"), &expected).expect("written");
    }
    let page = read("docs/reference/crates.md");
    assert!(
        page == expected,
        "run UPDATE=1 cargo test --features full,testing --test reports crates"
    );
}
