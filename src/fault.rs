//! Errors of input and output as plain data, and which of them are this
//! machine's own shortages.

use std::fmt;
use std::io;

/// An input or output error that can be kept and copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IoFault {
    /// The kind of the error.
    pub kind: io::ErrorKind,
    /// The operating system's words.
    pub text: Box<str>,
}

impl From<&io::Error> for IoFault {
    fn from(error: &io::Error) -> IoFault {
        IoFault { kind: error.kind(), text: error.to_string().into() }
    }
}

impl fmt::Display for IoFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether the error means that this process or machine has run out of
/// descriptors or buffers: ENFILE, EMFILE, ENOBUFS or ENOMEM.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let short = [Errno::NFILE, Errno::MFILE, Errno::NOBUFS, Errno::NOMEM];
        Errno::from_io_error(error).is_some_and(|errno| short.contains(&errno))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::OutOfMemory
    }
}
