//! Bulk SMTP client.
#![forbid(unsafe_code)]

mod callbacks;
pub mod command;
pub mod content;
pub mod coordinator;
pub mod envelope;
mod error;
mod event;
mod extensions;
mod failure;
mod fault;
pub mod host;
pub mod journal;
mod mailer;
mod message;
mod net_smtp;
mod outcome;
pub mod reply;
pub mod session;
#[cfg(feature = "sink")]
pub mod sink;
mod stuffing;
mod summary;
mod sweep;
mod timeouts;
mod transport;

pub use content::{Content, ContentError};
pub use coordinator::Standing;
pub use envelope::{Domain, Envelope, ForwardPath, ReversePath};
pub use error::{Error, Full};
pub use event::{Event, EventKind, Evidence, Handler, MessageVerdict, SessionVerdict, UnknownCode, Verdict};
pub use extensions::{Extension, Extensions};
pub use failure::Failure;
pub use fault::IoFault;
pub use host::{Backoff, Hello, Host, LaneId};
pub use mailer::{Mailer, MailerBuilder};
pub use message::{Message, MessageId};
pub use net_smtp::NetSmtp;
pub use outcome::{Cause, ClientReason, Outcome, RefusedBy, Report};
pub use reply::{EnhancedStatusCode, Reply, ReplyBuf, ReplyCode};
pub use session::Step;
pub use summary::{HostSummary, Summary, Tally};
pub use timeouts::Timeouts;
pub use transport::{Route, Target};
