//! The file system of the host.

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

#[cfg(windows)]
use std::os::windows::fs::FileExt as _;

use super::{File, Fs, parent};

/// The name of the file on which the lock is taken.
const LOCK: &str = "lock";

/// The file system of the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RealFs {
    /// What it makes is for this process's user alone, whatever the umask.
    private: bool,
}

impl RealFs {
    /// For what clients sent: nobody else on the host can read the files, or list the directory.
    pub(crate) const PRIVATE: Self = Self { private: true };
    /// For what is made for others to read: the umask decides.
    pub(crate) const SHARED: Self = Self { private: false };

    /// For reading and writing; the mode holds for files that are made, not for those that are there.
    fn options(self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        #[cfg(unix)]
        if self.private {
            use std::os::unix::fs::OpenOptionsExt as _;

            options.mode(0o600);
        }
        options
    }

    /// Makes one directory. Those above the one that was asked for hold nothing of ours, and may hold what others read.
    fn make_dir(self, made: &Path, asked: &Path) -> io::Result<()> {
        #[cfg(unix)]
        if self.private && made == asked {
            use std::os::unix::fs::DirBuilderExt as _;

            return fs::DirBuilder::new().mode(0o700).create(made);
        }
        let _ = asked;
        fs::create_dir(made)
    }
}

impl Fs for RealFs {
    type File = fs::File;
    type Lock = fs::File;

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        let mut at = dir;
        while !at.as_os_str().is_empty() && !at.exists() {
            missing.push(at);
            at = parent(at);
        }
        // A directory is durable once the one above it is synced. Whoever made the last that is there may have died before
        // that, so it is done again; where that cannot be, whoever set up the directory has to have seen to it.
        if !at.as_os_str().is_empty() {
            use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};

            match self.sync_dir(parent(at)).map_err(|error| error.kind()) {
                Ok(())
                | Err(PermissionDenied | ReadOnlyFilesystem | InvalidInput | Unsupported) => {}
                Err(kind) => return Err(kind.into()),
            }
        }
        // From the top, each synced before the next is made: so only the last that is there can be in doubt.
        for made in missing.iter().rev() {
            match self.make_dir(made, dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
            self.sync_dir(parent(made))?;
        }
        Ok(())
    }

    fn lock(&self, dir: &Path) -> io::Result<fs::File> {
        let file = self
            .options()
            .create(true)
            .truncate(false)
            .open(dir.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<fs::File> {
        self.options().create_new(true).open(path)
    }

    fn open(&self, path: &Path) -> io::Result<fs::File> {
        self.options().open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    #[cfg(unix)]
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    /// Other systems cannot open a directory, and make names durable with the file.
    #[cfg(not(unix))]
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl File for fs::File {
    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.seek_read(buf, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, buf, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.seek_write(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        // The length counts as data here: without it the content cannot be read back.
        self.sync_data()
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::{Errno, retry_on_intr};

        match retry_on_intr(|| fallocate(self, FallocateFlags::empty(), 0, len)) {
            // Some file systems cannot; then the space is taken at the write.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.set_len(len),
            other => Ok(other?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn reserve(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
