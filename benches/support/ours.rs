//! Ours: the same mails through this crate's own mailer.
//!
//! The order of things is the floor's: all sessions open, the warm-up's mails reported, the
//! section begun, the mails sent and every one reported, the section ended with the sessions
//! still open, and only then quit. It must count nothing but delivered mails: the orchestrator
//! compares the count with the plan and with what the server took.

use std::iter::repeat_n;
use std::sync::Arc;

use smtp_bulk::{Envelope, Host, Mailer, Message};

use super::Result;
use super::content::{HELLO, RECIPIENT, SENDER, content};
use super::figures::{Figures, Plan};
use super::gauge::Section;

pub fn run(plan: &Plan) -> Result<Figures> {
    smol::block_on(async {
        let host = Host::new(plan.server.to_string())
            .threads(u32::try_from(plan.sessions)?)
            .hello(HELLO)
            .pipeline(plan.way.pipeline()?)
            .depth(u32::try_from(plan.way.depth)?);
        let mut mailer = Mailer::builder().host(host).pace(plan.way.pace()).connect().await?;
        send(&mut mailer, plan.warm_up).await?;
        let section = Section::begin()?;
        let delivered = send(&mut mailer, plan.mails).await?;
        let figures = section.end(delivered)?;
        mailer.quit().await?;
        Ok(figures)
    })
}

/// Sends so many, and says how many were delivered.
pub async fn send(mailer: &mut Mailer, mails: usize) -> Result<usize> {
    let before = mailer.summary().mails.delivered;
    // Neither side reads addresses in the measured section.
    let content: Arc<[u8]> = content().into();
    let message = Message::new(Envelope::parse(SENDER, [RECIPIENT])?, content);
    // All of them at hand: without CHUNKING a content waits for the mail whose envelope goes
    // with it only where there is one.
    mailer.send_all(repeat_n(message, mails)).await?;
    mailer.flush().await?;
    Ok(usize::try_from(mailer.summary().mails.delivered - before)?)
}
