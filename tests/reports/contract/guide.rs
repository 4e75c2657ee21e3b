//! The pages that show how to write an engine have code that the suite runs.

/// Each page with the file that it shows parts of.
const PAGES: [(&str, &str, &str); 3] = [
    (
        "write-a-framing.md",
        include_str!("../../../docs/how-to/write-a-framing.md"),
        include_str!("../../guide/framing.rs"),
    ),
    (
        "write-a-connector.md",
        include_str!("../../../docs/how-to/write-a-connector.md"),
        include_str!("../../guide/connector.rs"),
    ),
    (
        "writing-an-engine.md",
        include_str!("../../../docs/how-to/writing-an-engine.md"),
        include_str!("../../guide/main.rs"),
    ),
];

#[test]
fn the_code_on_the_pages_is_that_of_the_suite() {
    for (page, text, file) in PAGES {
        let blocks: Vec<_> = text.split("```rust,ignore\n").skip(1).collect();
        assert!(!blocks.is_empty(), "{page} shows no code");
        for block in blocks {
            let (code, _) = block.split_once("```").expect("an end");
            assert!(file.contains(code), "{page}: the suite runs other code than\n{code}");
        }
        // What a page says of the size of its file.
        let lines = format!("{} lines", file.lines().count());
        assert!(page == "writing-an-engine.md" || text.contains(&lines), "{page}: {lines}");
    }
}
