//! What stands in the way of files that are made when they are first written.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::Path;

const NO_FOLDER: &str = "lies below what is no folder";

/// The rule that a file breaks which is to be written, with the folders around it.
pub(super) fn writable_file(path: &Path) -> Result<(), &'static str> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err("is a directory: name the file in it"),
        Ok(found) if !found.is_file() => Err("is a pipe or a device: name a regular file"),
        Ok(_) => Ok(()),
        Err(_) => writable_folder(path).map_err(|_| NO_FOLDER),
    }
}

/// The rule that a folder breaks which is to be written to, with those around it.
pub(super) fn writable_folder(path: &Path) -> Result<(), &'static str> {
    let exists = |path: &Path| fs::metadata(path).ok();
    if exists(path).is_some_and(|it| !it.is_dir()) {
        return Err("is no folder: name another one");
    }
    let nearest: Option<Metadata> = path.ancestors().find_map(exists);
    match nearest.is_some_and(|it| !it.is_dir()) {
        true => Err(NO_FOLDER),
        false => Ok(()),
    }
}

/// The rule that a log's path breaks which may be a device, and whose folder is not made. What may not be seen is no fault: another
/// user may be the one to serve.
pub(super) fn openable(path: &Path) -> Result<(), &'static str> {
    if path.is_dir() {
        return Err("is a directory: name the file in it");
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    match folder.map(fs::metadata) {
        Some(Ok(found)) if !found.is_dir() => Err(NO_FOLDER),
        Some(Err(error)) if error.kind() == ErrorKind::NotADirectory => Err(NO_FOLDER),
        Some(Err(error)) if error.kind() == ErrorKind::NotFound => {
            Err("is in a folder that does not exist: make it first")
        }
        Some(Ok(_) | Err(_)) | None => Ok(()),
    }
}
