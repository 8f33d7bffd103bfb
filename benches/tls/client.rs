//! The client role: this crate's own mailer, on one thread.
//!
//! A mailer with one session comes and goes first, so that what is counted for the sessions is
//! theirs and not the libraries'. It must count nothing but sessions in use and delivered mails:
//! the orchestrator compares the counts with the plan and with what the server took.

use smtp_bulk::{Credentials, Host, Mailer, Security, Standing, Tls};

use super::measured::{MAILS_BEFORE_REST, Measured, Plan};
use crate::support::Result;
use crate::support::content::HELLO;
use crate::support::gauge::Section;
use crate::support::ours::send;

/// Whom the server lets in.
pub const USER: &str = "client";
pub const PASSWORD: &str = "of no worth";

pub fn run(plan: &Plan) -> Result<Measured> {
    smol::block_on(async {
        let section = Section::begin()?;
        let mut mailer = open(plan, 1).await?;
        send(&mut mailer, 1).await?;
        mailer.quit().await?;
        drop(mailer);
        let first = section.end(1)?;

        let section = Section::begin()?;
        let mut mailer = open(plan, plan.sessions).await?;
        let in_use = mailer.lanes().filter(|lane| lane.standing == Standing::Active).count();
        let opened = section.end(in_use)?;

        let section = Section::begin()?;
        let delivered = send(&mut mailer, MAILS_BEFORE_REST * plan.sessions).await?;
        let rested = section.end(delivered)?;

        let section = Section::begin()?;
        let delivered = send(&mut mailer, plan.mails).await?;
        let sent = section.end(delivered)?;
        mailer.quit().await?;
        Ok(Measured { first, opened, rested, sent })
    })
}

async fn open(plan: &Plan, sessions: usize) -> Result<Mailer> {
    let host = Host::new(plan.server.to_string()).threads(u32::try_from(sessions)?).hello(HELLO);
    let host = if plan.case.security == Security::None {
        host
    } else {
        let tls = Tls::new().root_certificate_file(&plan.authority).only_these_roots();
        host.security(plan.case.security).tls(tls)
    };
    let host = if plan.case.has_auth {
        host.credentials(Credentials::password(USER, PASSWORD).allow_without_tls())
    } else {
        host
    };
    Ok(Mailer::builder().host(host).connect().await?)
}
