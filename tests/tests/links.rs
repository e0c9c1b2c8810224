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
