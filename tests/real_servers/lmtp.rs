//! What Dovecot says of each recipient behind the content (RFC 2033 §4.2), where it is not the same.

use std::collections::BTreeMap;

use smtp_bulk::{EventKind, Host, Pipeline, Step};

use crate::dovecot::Dovecot;
use crate::flights::{host, users};
use crate::mails::{Letter, check_stored};
use crate::stored::Store;
use crate::support::{self, Log, send_and_quit};

/// What becomes of a recipient, by what it is called.
fn fate(recipient: &str) -> &'static str {
    match recipient {
        name if name.starts_with("nobody") || name.starts_with("full") => "refused",
        name if name.starts_with("broken") => "abandoned",
        _ => "delivered",
    }
}

/// Every mix of those that are taken, have no room, cannot be written to just now, and are not known.
fn letters() -> Vec<Letter> {
    (0..160)
        .map(|id| match id % 16 {
            1 => Letter::plain(id).to(&["full"]),
            3 => Letter::plain(id).to(&["r", "full", "s"]),
            4 => Letter::varied(id).to(&["broken", "r", "nobody", "full", "s"]),
            6 => Letter::plain(id).to(&["broken"]),
            7 => Letter::varied(id).to(&["full", "broken"]),
            9 => Letter::plain(id).to(&["nobody"]),
            10 => Letter::plain(id).to(&["nobody", "r"]),
            12 => Letter::plain(id).to(&["full", "broken", "nobody", "r"]),
            15 => Letter::plain(id).to(&["nobody", "full"]),
            _ => Letter::varied(id),
        })
        .collect()
}

fn check_fates(server: &Dovecot, host: Host, way: (Pipeline, u32), letters: &[Letter]) {
    let log = Log::default();
    let builder = support::builder(&log).host(host.lmtp().threads(4)).max_attempts(2);
    let summary = send_and_quit(builder, letters.iter().map(Letter::message));
    log.reports(|reports| {
        for ended in reports {
            let told: BTreeMap<&str, &str> =
                ended.recipients.iter().map(|(to, told)| (&to[..], *told)).collect();
            let letter = letters.iter().find(|letter| letter.id == ended.id).unwrap();
            let expected = letter.to.iter().map(|to| (&to[..], fate(to))).collect();
            assert_eq!(told, expected, "{way:?}: {ended:?}");
        }
    });
    assert_eq!(summary.mails.total(), letters.len() as u64);
    // Their replies are no reason to end a session, nor to sit out.
    assert_eq!(summary.hosts[0].connections, 4, "{way:?}: {:?}", log.trouble());
    assert_eq!(log.of_kind(EventKind::Hang).len(), 0, "{way:?}");
    let of = |code: &str| {
        let seen = log.of_kind(EventKind::Fail);
        seen.iter().filter(|seen| seen.line.contains(code) && seen.step == Step::Content).count()
    };
    let count = |name: &str| letters.iter().flat_map(|one| &one.to).filter(|to| to.starts_with(name)).count();
    assert_eq!((of(": 552 5.2.2 "), of(": 451 4.2.0 ")), (count("full"), 2 * count("broken")), "{way:?}");
    check_stored(letters, |to| fate(to) == "delivered", server.take_stored());
}

#[test]
fn each_recipient_of_a_mail_by_lmtp_has_a_fate_of_its_own() {
    let letters = letters();
    let known: Vec<String> = users(&letters).into_iter().filter(|user| !user.starts_with("nobody")).collect();
    let Some(server) = Dovecot::start(&known) else { return };
    for way in [(Pipeline::Single, 1), (Pipeline::Envelope, 8), (Pipeline::Full, 1), (Pipeline::Full, 8)] {
        check_fates(&server, host(server.lmtp, way), way, &letters);
        let unix = Host::unix(&server.socket).hello("client.example").pipeline(way.0).depth(way.1);
        check_fates(&server, unix, way, &letters);
    }
}
