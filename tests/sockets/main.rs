//! The mailer over real sockets: against the embedded server and each of its misdeeds at each step,
//! and against peers that no server would be.

#[path = "../support/mod.rs"]
mod support;

mod calls;
#[path = "../support/certs.rs"]
mod certs;
mod contents;
mod control;
mod debug;
mod delays;
mod faults;
mod health;
mod hosts;
mod idle;
mod lines;
mod manners;
mod net_smtp;
mod paces;
mod recipients;
mod scripted;
mod silence;
mod standstill;
mod steps;
