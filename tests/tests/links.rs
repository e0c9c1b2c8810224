//! What the documents point at is there.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Every document of the repository: the root's, `docs/`'s, and those of each crate and example.
fn documents(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut directories = vec![root.to_owned(), root.join("docs")];
    for group in ["crates", "examples"] {
        for entry in fs::read_dir(root.join(group))? {
            directories.push(entry?.path());
        }
    }
    let mut documents = Vec::new();
    for directory in directories.iter().filter(|path| path.is_dir()) {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(path);
            }
        }
    }
    Ok(documents)
}

/// The files a text links to: not those elsewhere, and not the items that only rustdoc resolves.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1);
    links
        .filter_map(|rest| rest.split([')', '#', ' ']).next())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.contains("::"))
}

#[test]
fn links_lead_to_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let documents = documents(root).unwrap();
    assert!(documents.len() > 15, "{documents:?}");
    let mut found = 0;
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for target in targets(&text) {
            let path = document.with_file_name(target);
            assert!(path.exists(), "{}: {target}", document.display());
            found += 1;
        }
    }
    assert!(found > 20, "{found}");
}

/// Where a path of the threat model's tables is: it has short forms for what it names often.
fn unfolded(root: &Path, path: &str) -> PathBuf {
    const CRATES: [&str; 8] = [
        "core",
        "pipeline",
        "ratelimit",
        "bulkhead",
        "breaker",
        "retry",
        "logingest",
        "observe",
    ];
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    match first {
        "e2e" => root.join("examples/reference-gateway/tests").join(path),
        "config" => root.join("examples/reference-gateway/src").join(path),
        "server" | "upstream" => root.join("crates/gw-pipeline/tests").join(path),
        name if CRATES.contains(&name) => root.join(format!("crates/gw-{name}")).join(rest),
        _ => root.join(path),
    }
}

/// How many functions of a source have this name, or one that begins so if `…` stands for the rest.
fn functions(source: &str, name: &str) -> usize {
    let declared = match name.strip_suffix('…') {
        Some(beginning) => format!("fn {beginning}"),
        None => format!("fn {name}("),
    };
    source.matches(&declared).count()
}

#[test]
fn the_threat_model_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let (_, threats) = text.split_once("## Threats").unwrap();
    let (threats, _) = threats.split_once("## What is not protected").unwrap();
    let rows = threats.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    let mut found = 0;
    for cell in cells.filter(|cell| cell.contains('`')) {
        let mut file = PathBuf::new();
        for shown in cell.split('`').skip(1).step_by(2) {
            let (path, test) = shown.split_once("::").unwrap_or((shown, ""));
            if !path.is_empty() {
                file = unfolded(root, path);
            }
            assert!(file.exists(), "{shown}: {}", file.display());
            if !test.is_empty() {
                let source = fs::read_to_string(&file).unwrap();
                assert_eq!(functions(&source, test), 1, "{shown} of {cell}");
            }
            found += 1;
        }
    }
    assert!(found > 80, "{found}");
}
