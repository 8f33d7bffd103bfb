//! The server role: says where it listens, serves until its standard input ends, then says how
//! many mails it took.
//!
//! It must never keep what it is sent: all cases are measured against the same cheap server.

use std::fs;

use smtp_bulk::Security;
use smtp_bulk::sink::{Identity, Keep, Sink};

use super::case::{Case, Server};
use super::client::{PASSWORD, USER};
use crate::support::{Result, server};

/// The iterations of SCRAM: the fewest that RFC 7677 §4 allows.
pub const ITERATIONS: u32 = 4096;

/// Takes the name of the case, and the files of the certificate and its key.
pub fn serve(arguments: &[String]) -> Result<()> {
    let [case, chain, key] = arguments else {
        return Err("the server takes CASE CHAIN KEY".into());
    };
    let case = Case::named(case)?;
    let (chain, key) = (fs::read(chain)?, fs::read(key)?);
    match case.server {
        Server::Sink => sink(&case, &chain, &key),
        #[cfg(target_os = "linux")]
        Server::Bare => super::bare::serve(case.has_tls().then_some((chain.as_slice(), key.as_slice()))),
        #[cfg(not(target_os = "linux"))]
        Server::Bare => Err("TLS 1.3 is only served on Linux".into()),
    }
}

fn sink(case: &Case, chain: &[u8], key: &[u8]) -> Result<()> {
    let builder = Sink::builder().keep(Keep::Nothing);
    let builder = match case.security {
        Security::None => builder,
        Security::StartTls => builder.starttls(Identity::from_pkcs8(chain, key)?),
        _ => builder.implicit_tls(Identity::from_pkcs8(chain, key)?),
    };
    let mut sink = if case.has_auth {
        let builder = builder.user(USER, PASSWORD).mechanisms(["SCRAM-SHA-256"]).require_auth();
        builder.scram_iterations(ITERATIONS).start()?
    } else {
        builder.start()?
    };
    server::stand(sink.address())?;
    println!("{}", sink.stop().mails);
    Ok(())
}
