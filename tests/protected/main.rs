//! The mailer under TLS and with AUTH, against the sink.

mod auth;
#[path = "../support/certs.rs"]
mod certs;
#[cfg(not(any(windows, target_vendor = "apple")))]
mod handshakes;
#[cfg(not(any(windows, target_vendor = "apple")))]
mod peers;
#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "../sockets/scripted.rs"]
mod scripted;
mod secrets;
#[cfg(not(any(windows, target_vendor = "apple")))]
mod settings;
#[cfg(not(any(windows, target_vendor = "apple")))]
mod starttls;
#[path = "../support/mod.rs"]
mod support;
mod tls;

use certs::Authority;
use smtp_bulk::sink::Sink;
use smtp_bulk::{Credentials, Host, Mailer, Security, Tls};

#[test]
fn mails_go_out_under_tls_and_authenticated() {
    let authority = Authority::new();
    for (security, implicit) in [(Security::StartTls, false), (Security::Implicit, true)] {
        for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"] {
            let sink = Sink::builder().user("tim,=x", "pässword").mechanisms([mechanism]).require_auth();
            let identity = authority.good().identity();
            let sink = if implicit { sink.implicit_tls(identity) } else { sink.starttls(identity) };
            let sink = sink.start().unwrap();
            let tls = Tls::new().root_certificate(authority.pem()).only_these_roots();
            let host = Host::new(sink.address().to_string()).threads(3).security(security).tls(tls);
            let host = host.hello("client.example").credentials(Credentials::password("tim,=x", "pässword"));
            smol::block_on(async {
                let mut mailer = Mailer::builder().host(host).connect().await.unwrap();
                mailer.send_all((0..10).map(support::mail)).await.unwrap();
                assert_eq!(mailer.quit().await.unwrap().mails.delivered, 10);
            });
            let mails = sink.mails();
            assert!(mails.iter().all(|mail| mail.tls && mail.user.as_deref() == Some("tim,=x")));
            assert_eq!((mails.len(), sink.counts().tls_handshakes, sink.counts().auth_successes), (10, 3, 3));
        }
    }
}
