//! What the queue on disk and files of lines ask of a file system, small enough that tests can simulate one that loses
//! power.

use std::fmt::Debug;
use std::io;
use std::path::Path;

pub(crate) use self::real::RealFs;

mod real;
#[cfg(test)]
pub(crate) mod sim;

/// A file system. Each call may block.
pub(crate) trait Fs: Debug + Send + Sync + 'static {
    /// An open file, for reading and writing.
    type File: File;
    /// Held for as long as the directory is used; ends with the process at the latest.
    type Lock: Debug + Send;

    /// Makes the directory, and missing ones above it, so that they survive a loss of power.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the directory for this process alone; [`io::ErrorKind::WouldBlock`] if another has it.
    fn lock(&self, dir: &Path) -> io::Result<Self::Lock>;

    /// The names of the files in the directory; those that are not text are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// A new, empty file; an error if there is one with this name.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// A file that is there.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Gives the file another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the name of a file; who has the file open can go on using it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in the directory durable, as they are now.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. Reading and writing name the place, so that several threads can share it.
pub(crate) trait File: Debug + Send + Sync + 'static {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file or by chance, none at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some of the bytes and says how many.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes the content and the length durable. After an error nothing is known about what was written since the last
    /// success, and calling it again proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Makes the file so long, with zeros, and takes the space now rather than at the write.
    fn reserve(&self, len: u64) -> io::Result<()>;

    /// Makes the file so long: cuts it, or adds zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;
}

/// The directory that a file is in, or that a directory is in: `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Writes all of it.
pub(crate) fn write_all(file: &impl File, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.write_at(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                buf = buf.get(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends, and says how many bytes were read.
pub(crate) fn read_full(
    file: &impl File,
    mut buf: &mut [u8],
    mut offset: u64,
) -> io::Result<usize> {
    let whole = buf.len();
    while !buf.is_empty() {
        match file.read_at(buf, offset) {
            Ok(0) => break,
            Ok(n) => {
                buf = buf.get_mut(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(whole - buf.len())
}
