//! What a session has done elsewhere, as it takes long and all other sessions
//! would have to wait.

use std::fmt;

use crate::auth::AuthJob;
use crate::content::ReadJob;

/// Work that would hold up all other sessions.
pub enum Job {
    /// The next octets of a blocking content.
    Read(ReadJob),
    /// A key, or a token.
    Auth(AuthJob),
}

impl Job {
    /// Does it. Blocks.
    pub fn run(self) -> Job {
        match self {
            Job::Read(job) => Job::Read(job.run()),
            Job::Auth(job) => Job::Auth(job.run()),
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Job::Read(_) => "Job::Read",
            Job::Auth(_) => "Job::Auth",
        })
    }
}
