//! Bulk SMTP client.
#![forbid(unsafe_code)]

pub mod command;
pub mod content;
pub mod coordinator;
pub mod envelope;
mod error;
mod event;
mod extensions;
mod failure;
pub mod host;
pub mod journal;
mod message;
mod outcome;
pub mod reply;
pub mod session;
mod stuffing;
mod summary;
mod timeouts;

pub use content::{Content, ContentError};
pub use envelope::{Domain, Envelope, ForwardPath, ReversePath};
pub use error::{Error, Full};
pub use event::{
    Event, EventKind, Evidence, Handler, LaneId, MessageVerdict, SessionVerdict, UnknownCode, Verdict,
};
pub use extensions::{Extension, Extensions};
pub use failure::{Failure, IoFault};
pub use host::{Backoff, Hello, Host};
pub use message::{Message, MessageId};
pub use outcome::{Cause, ClientReason, Outcome, RefusedBy, Report};
pub use reply::{EnhancedStatusCode, Reply, ReplyBuf, ReplyCode};
pub use session::Step;
pub use summary::{HostSummary, Summary, Tally};
pub use timeouts::Timeouts;
