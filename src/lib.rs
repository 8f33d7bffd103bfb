//! Sends many mails over many SMTP sessions in lockstep: every session gets one
//! mail, and all of them go through MAIL, RCPT, DATA and content side by side.
//!
//! Begin with [`Mailer::builder`]. A [`Message`] is an [`Envelope`] and a
//! [`Content`]; each one ends in exactly one [`Report`] with its [`Outcome`], or
//! is given back by an [`Error`]. Callbacks are asked about each [`Event`] and
//! answer with a [`Verdict`].
//!
//! ```
//! # #[cfg(feature = "sink")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use smtp_bulk::{Envelope, Host, Mailer, Message};
//!
//! let sink = smtp_bulk::sink::Sink::start()?;
//! smol::block_on(async {
//!     let host = Host::new(sink.address().to_string()).threads(2).hello("client.example");
//!     let mut mailer = Mailer::builder().host(host).connect().await?;
//!     for name in ["ann", "bob", "cid"] {
//!         let envelope = Envelope::parse("news@example.org", [format!("{name}@example.net")])?;
//!         mailer.send(Message::new(envelope, "Subject: hello\r\n\r\nHello.\r\n").id(name)).await?;
//!     }
//!     assert_eq!(mailer.quit().await?.mails.delivered, 3);
//!     Ok(())
//! })
//! # }
//! # #[cfg(not(feature = "sink"))]
//! # fn main() {}
//! ```
//!
//! # Layers
//!
//! The crate is a stack of layers. Each may use those before it and none
//! behind it, and only the last one waits, reads a clock or touches a socket.
//!
//! **Wire.** Plain values that are checked when they are built and cannot fail
//! afterwards: the addresses of [`envelope`], the [`parameters`] that go with them, the [`reply`] and the reader that
//! finds it in a stream of octets, the [`command`] and the one encoder that
//! writes it, the [`Extensions`] of a server, the [`content`], whose dots are
//! stuffed and line ends mended while it is copied out, and what is asked of
//! TLS ([`Security`], [`Tls`]).
//!
//! **Protocol.** A [`session`] is one connection's side of SMTP without any
//! input or output: octets come in, octets go out, time is an argument. It
//! knows what may be said next and which replies are owed, and treats whatever
//! nobody asked for as a [`Failure`]. The mechanisms of [`auth`] know nothing of
//! SMTP; the session has the dialogue around them.
//!
//! **Batch.** The [`coordinator`] drives all sessions, still without input or
//! output. It deals one message to each lane, judges the replies, asks the
//! [`Handler`], and decides what becomes of messages and connections. A
//! [`host`] is the settings for some of its lanes.
//!
//! **Io.** The [`Mailer`] alternates two calls: one moves octets until there is
//! something to decide and decides nothing, the other decides everything and
//! waits for nothing. TLS is agreed on and spoken here, over the same
//! connections. A journal writes the debug output, [`NetSmtp`] has the
//! calls of Net::SMTP, and `sink` is a server to test against.
//!
//! # Feature
//!
//! `sink`, on by default: the embedded server.
#![forbid(unsafe_code)]

pub mod auth;
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
mod health;
pub mod host;
mod inquiry;
mod journal;
mod limits;
mod mailer;
mod message;
mod net_smtp;
mod outcome;
mod outgoing;
mod pace;
pub mod parameters;
mod reopening;
pub mod reply;
mod security;
pub mod session;
#[cfg(feature = "sink")]
pub mod sink;
mod steps;
mod stuffing;
mod summary;
mod sweep;
mod timeouts;
mod tls;
mod transport;

pub use auth::{AuthFault, AuthMechanism, Credentials};
pub use content::{Content, ContentError, MergeError, Template, TemplateError};
pub use coordinator::{HostStatus, LaneStatus, Lesson, NoReply, Standing};
pub use envelope::{Domain, Envelope, ForwardPath, ReversePath};
pub use error::{Error, Full};
pub use event::{
    Event, EventKind, Evidence, Handler, MessageVerdict, ReadLine, SessionVerdict, UnknownCode, Verdict,
};
pub use extensions::{Extension, ExtensionSet, Extensions};
pub use failure::Failure;
pub use fault::IoFault;
pub use health::{HostChange, HostNews};
pub use host::{Hello, Host, LaneId, Pipeline, UnknownLevel};
pub use inquiry::Inquiry;
pub use journal::JournalError;
pub use limits::Rate;
pub use mailer::{Control, Mailer, MailerBuilder, Quit};
pub use message::{Message, MessageId};
pub use net_smtp::NetSmtp;
pub use outcome::{Cause, ClientReason, Outcome, RecipientReport, RefusedBy, Report};
pub use pace::Pace;
pub use parameters::Body;
pub use reopening::{Backoff, Retry, Sleep};
pub use reply::{EnhancedStatusCode, Reply, ReplyBuf, ReplyCode};
pub use sasl;
pub use secrecy;
pub use security::{Security, Tls, TlsFault, TlsProblem, TlsVersion, UnknownSecurity};
pub use session::Step;
pub use steps::{StepEnd, StepTaken};
pub use summary::{HostSummary, Summary, Tally};
pub use timeouts::Timeouts;
pub use transport::{Route, Target};

/// The code in README and guide is compiled and run with the tests.
#[cfg(all(doctest, feature = "sink"))]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/GUIDE.md")]
    struct Guide;
}
