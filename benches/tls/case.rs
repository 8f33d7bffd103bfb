//! What is measured: each case with its server, its certificate, and the case without TLS or AUTH
//! that it is compared with.

use smtp_bulk::Security;

use crate::support::Result;

/// The server of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The crate's own, whose TLS is 1.2 at the most.
    Sink,
    /// One that also speaks TLS 1.3.
    Bare,
}

/// The key of the server's certificate. The authority's is P-256 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    EcdsaP256,
    Rsa2048,
}

/// One way to open sessions.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is called on command lines.
    pub name: &'static str,
    pub title: &'static str,
    pub server: Server,
    pub security: Security,
    pub key: Key,
    /// Whether the client logs in with SCRAM-SHA-256.
    pub has_auth: bool,
    /// The case that is this one without what it is about.
    pub beside: Option<&'static str>,
}

const PLAIN: Case = Case {
    name: "plain",
    title: "plain",
    server: Server::Sink,
    security: Security::None,
    key: Key::EcdsaP256,
    has_auth: false,
    beside: None,
};

const TLS: Case = Case { security: Security::Implicit, beside: Some(PLAIN.name), ..PLAIN };

const ALL: [Case; 7] = [
    PLAIN,
    Case { name: "tls12", title: "TLS 1.2, ECDSA P-256", ..TLS },
    Case { name: "starttls", title: "TLS 1.2, ECDSA P-256, STARTTLS", security: Security::StartTls, ..TLS },
    Case { name: "rsa", title: "TLS 1.2, RSA-2048", key: Key::Rsa2048, ..TLS },
    Case { name: "bare", title: "plain (server of the next row)", server: Server::Bare, ..PLAIN },
    Case { name: "tls13", title: "TLS 1.3, ECDSA P-256", server: Server::Bare, beside: Some("bare"), ..TLS },
    Case { name: "scram", title: "plain, SCRAM-SHA-256", has_auth: true, beside: Some(PLAIN.name), ..PLAIN },
];

impl Case {
    /// The cases that this machine can run.
    pub fn all() -> impl Iterator<Item = Case> {
        ALL.into_iter().filter(|case| {
            cfg!(target_os = "linux") || case.server == Server::Sink && case.key == Key::EcdsaP256
        })
    }

    pub fn named(name: &str) -> Result<Case> {
        Case::all().find(|case| case.name == name).ok_or_else(|| format!("no case is called {name}").into())
    }

    pub fn has_tls(&self) -> bool {
        self.security != Security::None
    }

    /// Whether its mails are sent as those of no case before it.
    pub fn counts_calls(&self) -> bool {
        !self.has_auth && self.key == Key::EcdsaP256 && self.security != Security::StartTls
    }
}
