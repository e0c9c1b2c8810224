//! What the crates refuse with agrees, and blames whom it should.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "assertions")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A code as the source says it: `StatusCode::BAD_REQUEST` and `GrpcStatus::InvalidArgument` by their last part.
struct Code {
    name: String,
    http: String,
    grpc: String,
    file: PathBuf,
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// What follows `prefix`, up to the end of the identifier.
fn part(text: &str, prefix: &str) -> Option<String> {
    let (_, rest) = text.split_once(prefix)?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some(rest[..end].to_owned())
}

/// The codes of the crates: constants of modules, so none of tests and examples of documentation, which are indented.
fn codes() -> io::Result<Vec<Code>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for group in ["crates", "examples"] {
        for entry in fs::read_dir(root.join(group))? {
            let source = entry?.path().join("src");
            if source.is_dir() {
                sources(&source, &mut files)?;
            }
        }
    }
    let mut codes = Vec::new();
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = fs::read_to_string(file)?;
        for (at, _) in text.match_indices(": Code = Code::new(") {
            let (before, made) = text.split_at(at);
            let declared = before.lines().last().unwrap();
            if declared.starts_with(' ') || declared.starts_with("//") {
                continue;
            }
            let what = "a code has a name and both statuses";
            codes.push(Code {
                name: part(made, "\"").expect(what),
                http: part(made, "StatusCode::").expect(what),
                grpc: part(made, "GrpcStatus::").expect(what),
                file: file.clone(),
            });
        }
    }
    Ok(codes)
}

/// Story: an intake at capacity was UNAVAILABLE, which is a failure to a breaker further out; a lane was RESOURCE_EXHAUSTED.
#[test]
fn codes_of_one_name_have_the_same_statuses() {
    let mut known = BTreeMap::new();
    for code in codes().unwrap() {
        let here = (code.http, code.grpc);
        let (there, file) = known
            .entry(code.name.clone())
            .or_insert_with(|| (here.clone(), code.file.clone()));
        let both = format!("{}: {}, {}", code.name, file.display(), code.file.display());
        assert_eq!(here, *there, "{both}");
    }
    assert!(known.len() > 20, "{known:?}");
}

/// Story: a client that sent malformed requests by gRPC opened the breaker of a gateway further out.
#[test]
fn a_clients_fault_is_no_failure_to_who_calls_by_grpc() {
    const GATEWAYS: [&str; 5] = [
        "INTERNAL_SERVER_ERROR",
        "BAD_GATEWAY",
        "SERVICE_UNAVAILABLE",
        "GATEWAY_TIMEOUT",
        "LOOP_DETECTED",
    ];
    // As `GrpcClassifier` has it.
    const FAILURES: [&str; 5] = [
        "Unknown",
        "DeadlineExceeded",
        "Internal",
        "Unavailable",
        "DataLoss",
    ];
    let mut found = 0;
    for code in codes().unwrap() {
        if !GATEWAYS.contains(&code.http.as_str()) {
            let (name, grpc) = (&code.name, code.grpc.as_str());
            assert!(!FAILURES.contains(&grpc), "{name}: {grpc}");
            found += 1;
        }
    }
    assert!(found > 12, "{found}");
}
