//! The file of what was not delivered and why, fit to be given as the recipients of another run.
//! It must never stop the mail: a write that fails is remembered and told at the end.

use crate::input::{InputError, one_line, quoted};
use crate::recipients::{Header, Record, STATUS_FIELDS};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{self, Path, PathBuf};

/// Longest reason written, in bytes; twice this and the other two fields fit
/// [`STATUS_ROOM`](crate::recipients::STATUS_ROOM).
const MAX_REASON: usize = 1000;

/// What stands in one column of the file.
#[derive(Debug, Clone, Copy)]
enum Column {
    Field(usize),
    Outcome,
    Reason,
    Line,
}

/// An open file of undelivered mail: CSV with the recipients' fields and [`STATUS_FIELDS`].
#[derive(Debug)]
pub struct Failed {
    path: PathBuf,
    writer: csv::Writer<Remembering>,
    names: Vec<String>,
    columns: Vec<Column>,
    rows: u64,
    has_begun: bool,
}

impl Failed {
    /// Opens or creates the file and leaves what is in it. A path that is also one of `inputs` is
    /// refused, because it would be lost; so are fields named as the three that are
    /// added, unless they end the header and so come from such a file.
    pub fn create(path: &Path, header: &Header, inputs: &[&Path]) -> Result<Self, InputError> {
        if let Some(input) = inputs.iter().find(|input| same_file(path, input)) {
            let what = format!("is also read as input ({}); name another file", input.display());
            return Err(InputError::file(path, what));
        }
        let own = own_fields(header).map_err(|what| InputError::file(path, what))?;
        let file = open_to_write(path)?;
        let names = own.iter().map(String::as_str).chain(STATUS_FIELDS).map(str::to_owned).collect();
        let columns = (0..own.len()).map(Column::Field);
        let columns = columns.chain([Column::Outcome, Column::Reason, Column::Line]).collect();
        let writer = csv::Writer::from_writer(Remembering { file, error: None });
        Ok(Self { path: path.to_owned(), writer, names, columns, rows: 0, has_begun: false })
    }

    /// Empties the file and writes its header, once: the run is going to have outcomes.
    pub fn begin(&mut self) -> Result<(), InputError> {
        if !self.has_begun {
            self.has_begun = true;
            // The writer has taken nothing yet, so that all it will write comes after this.
            self.writer.get_ref().empty().map_err(|error| self.cannot_write(&error))?;
            drop(self.writer.write_record(&self.names));
            self.flush();
        }
        match &self.writer.get_ref().error {
            Some(error) => Err(self.cannot_write(error)),
            None => Ok(()),
        }
    }

    fn cannot_write(&self, error: &io::Error) -> InputError {
        InputError::file(&self.path, format!("cannot write: {error}"))
    }

    /// Adds a mail that was not delivered. The reason is brought onto one line and cut.
    pub fn write(&mut self, record: &Record, outcome: &str, reason: &str) {
        // What fails here is remembered by the writer, or fails again when it writes.
        drop(self.begin());
        self.rows = self.rows.saturating_add(1);
        let reason = one_line(cut(reason));
        let line = record.line.to_string();
        let row = self.columns.iter().map(|column| match *column {
            Column::Field(index) => record.value(index),
            Column::Outcome => outcome,
            Column::Reason => reason.as_str(),
            Column::Line => line.as_str(),
        });
        // Cannot fail: the number of fields never differs, and `Remembering` keeps write errors.
        drop(self.writer.write_record(row));
    }

    /// Hands everything to the operating system, so that a crash loses no row.
    pub fn flush(&mut self) {
        drop(self.writer.flush());
    }

    /// Brings everything to the disk; the number of rows, or the first write error.
    pub fn finish(mut self) -> Result<u64, InputError> {
        self.flush();
        let sink = self.writer.get_ref();
        let error = match &sink.error {
            Some(error) => Some(error.to_string()),
            None => sink.sync().err().map(|error| error.to_string()),
        };
        match error {
            None => Ok(self.rows),
            Some(error) => {
                let rows = self.rows;
                let what = format!("cannot write: {error}; of {rows} mails not delivered it lists only some");
                Err(InputError::file(&self.path, what))
            }
        }
    }
}

/// A file that takes everything and remembers the first error: `csv::Writer` would write its
/// buffer a second time after one.
#[derive(Debug)]
struct Remembering {
    file: File,
    error: Option<io::Error>,
}

impl Remembering {
    fn empty(&self) -> io::Result<()> {
        match self.file.metadata()?.is_file() {
            true => self.file.set_len(0),
            false => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        // A terminal, a pipe or a device has nothing to bring to a disk and refuses the call.
        match self.file.metadata()?.is_file() {
            true => self.file.sync_all(),
            false => Ok(()),
        }
    }
}

impl Write for Remembering {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.error.is_none()
            && let Err(error) = self.file.write_all(bytes)
        {
            self.error = Some(error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The fields that are the user's. What an earlier run added is made anew, and nothing else is.
fn own_fields(header: &Header) -> Result<&[String], String> {
    let names = header.names();
    let split = names.len().checked_sub(STATUS_FIELDS.len()).and_then(|at| names.split_at_checked(at));
    let own = match split {
        Some((own, added)) if added == STATUS_FIELDS => own,
        _ => names,
    };
    match own.iter().find(|name| STATUS_FIELDS.contains(&name.as_str())) {
        None => Ok(own),
        Some(name) => {
            Err(format!("adds the field {}, which the recipients have; rename theirs", quoted(name)))
        }
    }
}

/// Opens or creates a file that is going to be written, and leaves what is in it until then.
pub fn open_to_write(path: &Path) -> Result<File, InputError> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    opened.map_err(|error| InputError::file(path, format!("cannot write: {error}")))
}

/// Whether two paths lead to one file, by links of whatever kind; or would, once it exists.
pub fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other || is_linked(&one, &other),
        _ => matches!((path::absolute(one), path::absolute(other)), (Ok(one), Ok(other)) if one == other),
    }
}

#[cfg(unix)]
fn is_linked(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_linked(_: &Path, _: &Path) -> bool {
    false
}

fn cut(reason: &str) -> &str {
    let ends = (0..=MAX_REASON.min(reason.len())).rev();
    ends.filter_map(|end| reason.get(..end)).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipients::check;
    use std::sync::Arc;

    fn header(names: &[&str]) -> Header {
        Header::new(names.iter().map(|&n| n.to_owned()).collect()).unwrap()
    }

    fn any(_: &str) -> Result<(), String> {
        Ok(())
    }

    #[test]
    fn file_can_be_given_as_recipients_again() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("1.csv"), folder.path().join("2.csv"));
        let names = header(&["name", "email"]);
        let mut failed = Failed::create(&first, &names, &[]).unwrap();
        let record = Record::new(&names, 7, ["Smith, \"J\"", "a@b"]).unwrap();
        failed.write(&record, "refused", "550 5.1.1 no\r\n550 such \0 user");
        assert_eq!(failed.finish().unwrap(), 1);
        assert_eq!(
            fs::read_to_string(&first).unwrap(),
            "name,email,outcome,reason,line\n\
             \"Smith, \"\"J\"\"\",a@b,refused,550 5.1.1 no  550 such   user,7\n"
        );

        let checked = check(&first, &any).unwrap();
        let again: Vec<Record> = checked.records().unwrap().map(Result::unwrap).collect();
        let [record] = &again[..] else { panic!() };
        assert_eq!(record.value(0), "Smith, \"J\"");
        let header: &Arc<Header> = checked.header();
        let mut failed = Failed::create(&second, header, &[&first]).unwrap();
        failed.write(record, "abandoned", "421 later");
        failed.finish().unwrap();
        assert_eq!(
            fs::read_to_string(&second).unwrap(),
            "name,email,outcome,reason,line\n\"Smith, \"\"J\"\"\",a@b,abandoned,421 later,2\n"
        );
    }

    #[test]
    fn longest_row_can_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.csv");
        let names = header(&["email", "n"]);
        let long = "\"".repeat((65_536 - 4096) / 2 - 10);
        let record = Record::new(&names, u64::MAX, ["a@b", &long]).unwrap();
        let mut failed = Failed::create(&path, &names, &[]).unwrap();
        failed.write(&record, "refused", &"\"ü".repeat(5000));
        failed.finish().unwrap();
        assert_eq!(check(&path, &any).unwrap().count(), 1);
    }

    #[test]
    fn what_is_in_the_file_stays_until_the_run_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.csv");
        fs::write(&path, "precious, and longer than the header that will replace it").unwrap();
        let mut failed = Failed::create(&path, &header(&["email"]), &[]).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("precious"));
        for _ in 0..2 {
            failed.begin().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "email,outcome,reason,line\n");
        }
    }

    #[test]
    fn unwritable_path_is_an_error_at_once() {
        let names = header(&["email"]);
        let error = Failed::create(Path::new("/nonexistent/f.csv"), &names, &[]).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/f.csv: cannot write: No such file"));
        let error = Failed::create(Path::new("/tmp"), &names, &[]).unwrap_err();
        assert!(error.to_string().starts_with("/tmp: cannot write: "));
    }

    #[test]
    fn input_is_never_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("r.csv");
        fs::write(&input, "a@b\n").unwrap();
        let same = folder.path().join(".").join("r.csv");
        let error = Failed::create(&same, &header(&["email"]), &[&input]).unwrap_err();
        assert!(error.to_string().contains("is also read as input"));
        assert_eq!(fs::read_to_string(&input).unwrap(), "a@b\n");
    }

    #[cfg(unix)]
    #[test]
    fn input_by_another_name_is_never_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let (input, link) = (folder.path().join("r.csv"), folder.path().join("link"));
        fs::write(&input, "a@b\n").unwrap();
        fs::hard_link(&input, &link).unwrap();
        let error = Failed::create(&link, &header(&["email"]), &[&input]).unwrap_err();
        assert!(error.to_string().contains("is also read as input"));
    }

    #[test]
    fn fields_of_the_user_are_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.csv");
        for names in [
            ["email", "line", "reason", "outcome"].as_slice(),
            &["email", "line"],
            &["outcome", "reason", "line", "email"],
        ] {
            let error = Failed::create(&path, &header(names), &[]).unwrap_err().to_string();
            assert!(error.contains("adds the field `") && error.ends_with("rename theirs"), "{error}");
            assert!(!path.exists());
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn full_disk_is_an_error_at_the_start() {
        let mut failed = Failed::create(Path::new("/dev/full"), &header(&["email"]), &[]).unwrap();
        let error = failed.begin().unwrap_err();
        assert!(error.to_string().starts_with("/dev/full: cannot write: No space left"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn disk_that_fills_up_later_is_told_at_the_end() {
        let names = header(&["email"]);
        let folder = tempfile::tempdir().unwrap();
        let mut failed = Failed::create(&folder.path().join("f"), &names, &[]).unwrap();
        failed.begin().unwrap();
        failed.writer = csv::Writer::from_writer(Remembering {
            file: OpenOptions::new().write(true).open("/dev/full").unwrap(),
            error: None,
        });
        let record = Record::new(&names, 1, ["a@b"]).unwrap();
        for _ in 0..10_000 {
            failed.write(&record, "unsent", "no host");
        }
        let error = failed.finish().unwrap_err().to_string();
        assert!(error.contains("No space left"), "{error}");
        assert!(error.contains("of 10000 mails"), "{error}");
    }
}
