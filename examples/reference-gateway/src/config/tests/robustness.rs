//! Files that are no configuration: a clear error, never a panic.

use std::fs;
use std::path::Path;

use super::{CONTRACT, LEAST, errors, no_variables, parse};
use crate::config::error::ConfigError;
use crate::config::table::Config;

fn load(path: &Path) -> Result<Config, ConfigError> {
    Config::load(path, &no_variables).map_err(|errors| {
        assert_eq!(errors.as_slice().len(), 1, "{errors}");
        errors.as_slice()[0].clone()
    })
}

fn load_bytes(bytes: &[u8]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    fs::write(&path, bytes).unwrap();
    load(&path)
}

#[test]
fn the_fixture_loads_from_its_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/contract.toml");
    let config = load(&path).unwrap();
    // What the file names is relative to its folder, wherever the process runs.
    let folder = path.parent().unwrap();
    assert_eq!(
        config.routes[1].schema,
        Some(folder.join("order.schema.json"))
    );
    assert_eq!(
        config.auth.api_keys["partners"].file,
        folder.join("api-keys.toml")
    );
}

#[test]
fn absolute_paths_stay() {
    let text = format!("[admin]\ntoken_file = \"/run/secrets/token\"\n{LEAST}");
    assert_eq!(
        parse(&text).unwrap().admin.token_file.unwrap(),
        Path::new("/run/secrets/token")
    );
}

#[test]
fn a_missing_file() {
    let error = load(Path::new("no/such/gateway.toml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no/such/gateway.toml: does not exist: check the path"
    );
    assert_eq!((error.line, error.column), (0, 0));
}

#[test]
fn a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let error = load(folder.path()).unwrap_err();
    assert_eq!(error.message, "is a directory: name the file in it");
}

#[test]
fn a_device_that_has_no_end() {
    let error = load(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(
        error.message,
        "is larger than 1 MiB: this is not a configuration file"
    );
}

#[test]
fn a_file_of_five_megabytes() {
    let error = load_bytes(&vec![b'#'; 5 << 20]).unwrap_err();
    assert_eq!(
        (error.line, error.message.as_str()),
        (0, "is larger than 1 MiB: this is not a configuration file")
    );
    let text = "#".repeat(5 << 20);
    assert_eq!(errors(&text)[0].message, error.message);
}

#[test]
fn the_largest_file_is_read() {
    let comment = "#".repeat((1 << 20) - LEAST.len());
    load_bytes(format!("{LEAST}{comment}").as_bytes()).unwrap();
    let error = load_bytes(format!("{LEAST}{comment}#").as_bytes()).unwrap_err();
    assert_eq!(error.line, 0);
}

#[test]
fn bytes_that_are_not_utf8() {
    let error = load_bytes(b"[server]\ndefault_lane = \"\xff\xfe\"\n").unwrap_err();
    assert_eq!((error.line, error.column), (2, 17));
    assert_eq!(
        error.message,
        "is not UTF-8 from here on: save the file as UTF-8 text"
    );

    let utf16: Vec<u8> = LEAST.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(
        load_bytes(&utf16).unwrap_err().message,
        "holds a NUL byte: this is not a text file"
    );
}

#[test]
fn a_nul_byte() {
    let error = load_bytes(b"[server]\nthreads = \0 1\n").unwrap_err();
    assert_eq!((error.line, error.column), (2, 11));
    assert_eq!(error.message, "holds a NUL byte: this is not a text file");
}

#[test]
fn a_file_that_ends_early() {
    let cuts = CONTRACT.char_indices().map(|(i, _)| i).step_by(41);
    for cut in cuts {
        // Some beginnings are configurations; the rest must say what is wrong without a panic.
        if let Err(errors) = parse(&CONTRACT[..cut]) {
            assert!(!errors.to_string().is_empty());
        }
    }
}

#[test]
fn garbage() {
    for text in [
        "]",
        "[[",
        "=",
        "a",
        "a.",
        "\"",
        "'''",
        "{}",
        "[a]]",
        "a = {",
        "\u{1b}",
        "💥 = 💥",
        "a = [[[[[[1",
    ] {
        assert!(
            errors(text)[0].message.starts_with("not valid TOML: "),
            "{text}"
        );
    }
}

/// The parser allows 80 brackets in one another and 80 dots between each; freeing such a tree
/// overflows the stack.
#[test]
fn deep_nesting() {
    let dotted = format!("{}a = 1", "a.".repeat(9));
    assert_eq!(errors(&dotted)[0].message, "a key may have at most 8 dots");
    let spaced = format!("[{}a]", "a . ".repeat(9));
    assert_eq!(errors(&spaced)[0].message, "a key may have at most 8 dots");

    let level = format!("{}a = {{", "a.".repeat(7));
    let bomb = format!("{}{}", level.repeat(78), "}".repeat(78));
    assert_eq!(errors(&bomb)[0].key, "a");
    for bracket in ["[", "{a="] {
        let text = format!("a = {}", bracket.repeat(300_000 / bracket.len()));
        assert!(errors(&text)[0].message.starts_with("not valid TOML: "));
    }
    // Dots in values are no nesting.
    parse(&format!(
        "[server]\nthreads = 1 # {0}\nlisten = [\"127.0.0.1:80\"]\n{LEAST}",
        "a.".repeat(20)
    ))
    .unwrap();
}
