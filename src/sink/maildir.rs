//! Delivery into a Maildir: written under `tmp/`, then renamed into `new/`, so that a reader never
//! sees half a mail.
//!
//! Calls here block; a file that was not finished must never stay behind.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A Maildir whose three folders exist.
#[derive(Debug)]
pub(super) struct Maildir {
    tmp: PathBuf,
    new: PathBuf,
    /// The host's name as it may stand in a file name.
    host: String,
    begun: Cell<u64>,
}

/// A mail that is being written; dropped before [`Delivery::finish`] it leaves nothing.
#[derive(Debug)]
pub(super) struct Delivery {
    file: File,
    tmp: PathBuf,
    new: PathBuf,
    finished: bool,
}

impl Maildir {
    pub(super) fn open(path: &Path, hostname: &str) -> io::Result<Self> {
        let folder = |name: &str| {
            let folder = path.join(name);
            fs::create_dir_all(&folder).map(|()| folder)
        };
        folder("cur")?;
        Ok(Self {
            tmp: folder("tmp")?,
            new: folder("new")?,
            host: hostname.replace('/', "\\057").replace(':', "\\072"),
            begun: Cell::new(0),
        })
    }

    /// Opens a file with a name that is unique on this host: the time, the process, a number.
    pub(super) fn begin(&self) -> io::Result<Delivery> {
        let number = self.begun.get().wrapping_add(1);
        self.begun.set(number);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!(
            "{}.M{}P{}Q{number}.{}",
            now.as_secs(),
            now.subsec_micros(),
            std::process::id(),
            self.host
        );
        let tmp = self.tmp.join(&name);
        Ok(Delivery { file: File::create_new(&tmp)?, tmp, new: self.new.join(name), finished: false })
    }
}

impl Delivery {
    pub(super) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.file.write_all(content)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        fs::rename(&self.tmp, &self.new)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done about a file that cannot be removed; tmp/ is swept by readers.
            let _ = fs::remove_file(&self.tmp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_appears_whole_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let maildir = Maildir::open(&place.path().join("a/b"), "odd:host/name").unwrap();
        let count = |folder: &Path| fs::read_dir(folder).unwrap().count();

        let mut delivery = maildir.begin().unwrap();
        delivery.write(b"half").unwrap();
        assert_eq!((count(&maildir.tmp), count(&maildir.new)), (1, 0));
        drop(delivery);
        assert_eq!((count(&maildir.tmp), count(&maildir.new)), (0, 0));

        let mut delivery = maildir.begin().unwrap();
        delivery.write(b"whole\r\n").unwrap();
        delivery.finish().unwrap();
        let file = fs::read_dir(&maildir.new).unwrap().next().unwrap().unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), b"whole\r\n");
        assert!(file.file_name().to_str().unwrap().ends_with("odd\\072host\\057name"));
        assert_eq!(count(&maildir.tmp), 0);
    }
}
