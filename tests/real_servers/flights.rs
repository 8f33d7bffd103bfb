//! A thousand mails over twenty sessions at each level and depth: each comes exactly once to each of its
//! recipients, byte for byte, and what the servers tell of the sessions shows that the level was used.

use smtp_bulk::{Host, Pipeline};

use crate::certs::Authority;
use crate::dovecot::Dovecot;
use crate::exim::Exim;
use crate::mails::{Letter, check_stored};
use crate::postfix::{Certificates, Postfix};
use crate::private::Private;
use crate::stored::Store;
use crate::support::{self, Log, send_and_quit};

const MAILS: u64 = 1000;
const SESSIONS: u32 = 20;

/// A level and a depth.
type Way = (Pipeline, u32);

/// Every way to send, and whether it is to a server without CHUNKING: there the highest level alone is
/// another.
fn ways() -> impl Iterator<Item = (Way, bool)> {
    let levels = [
        (Pipeline::Single, false),
        (Pipeline::Envelope, false),
        (Pipeline::Full, false),
        (Pipeline::Full, true),
    ];
    levels.into_iter().flat_map(|(level, is_bare)| [((level, 1), is_bare), ((level, 8), is_bare)])
}

fn letters() -> Vec<Letter> {
    (0..MAILS).map(Letter::varied).collect()
}

/// Recipients of all mails.
fn recipients(letters: &[Letter]) -> u64 {
    letters.iter().map(|letter| letter.to.len() as u64).sum()
}

pub fn host(port: u16, (pipeline, depth): Way) -> Host {
    Host::new("127.0.0.1").port(port).hello("client.example").pipeline(pipeline).depth(depth)
}

pub fn postfix() -> Option<Postfix> {
    let authority = Authority::new();
    let (good, authority) = (authority.good(), &authority.pem());
    Postfix::start(&[], Certificates { chain: &good.pem, key: &good.key_pem, authority })
}

/// Sends a thousand mails, which are all delivered at the first attempt, and over sessions that meet no
/// trouble and are not opened again.
fn send_all(host: Host, way: Way, letters: &[Letter]) {
    let log = Log::default();
    let builder = support::builder(&log).host(host.threads(SESSIONS));
    let summary = send_and_quit(builder, letters.iter().map(Letter::message));
    assert!(log.trouble().is_empty(), "{way:?}: {:?}", log.trouble());
    assert_eq!(summary.mails.delivered, MAILS, "{way:?}: {summary}");
    assert_eq!(summary.recipients.delivered, recipients(letters), "{way:?}: {summary}");
    assert_eq!((summary.mails.total(), summary.requeued), (MAILS, 0), "{way:?}: {summary}");
    assert_eq!(summary.hosts[0].connections, u64::from(SESSIONS), "{way:?}");
    assert!(summary.batches >= MAILS / (u64::from(SESSIONS) * u64::from(way.1)), "{way:?}: {summary}");
    log.reports(|reports| assert!(reports.iter().all(|ended| ended.attempts == 1), "{way:?}"));
}

/// Waits for what a session's end writes into the log behind `begin`, for all sessions.
fn wait_for_ends(server: &Private, begin: usize, end: &str) -> String {
    let log = server.wait_for_log(|log| log[begin..].matches(end).count() >= SESSIONS as usize);
    log[begin..].to_owned()
}

// ---- Postfix ------------------------------------------------------------------------------------

/// How often a command came, by the lines about sessions that have ended.
fn commands(log: &str, name: &str) -> u64 {
    let ended = log.lines().filter(|line| line.contains("]: disconnect from ") && line.contains(" ehlo=1 "));
    let counts = ended.flat_map(|line| line.split(' ')).filter_map(|word| word.strip_prefix(name));
    // `rcpt=3/4` where one of four was refused.
    let all = counts.filter_map(|count| count.strip_prefix('=')?.split('/').next_back());
    all.map(|count| count.parse::<u64>().unwrap()).sum()
}

#[test]
fn postfix_takes_a_thousand_mails_at_each_level_and_depth() {
    let Some(server) = postfix() else { return };
    let letters = letters();
    for (way, is_bare) in ways() {
        let begin = server.server().log().len();
        send_all(host(if is_bare { server.bare } else { server.open }, way), way, &letters);
        check_stored(&letters, |_| true, server.take_stored());

        let log = wait_for_ends(server.server(), begin, " ehlo=1 ");
        let of = |name: &str| commands(&log, name);
        let (data, chunks, resets) = (of("data"), of("bdat"), of("rset"));
        assert_eq!((of("mail"), of("rcpt"), of("quit")), (MAILS, recipients(&letters), 20), "{way:?}");
        if way.0 == Pipeline::Full && !is_bare {
            assert!(data == 0 && chunks >= MAILS, "{way:?}: {data} DATA, {chunks} BDAT");
            assert_eq!(resets > 0, way.1 > 1, "{way:?}: between mails of a flight");
        } else {
            assert_eq!((data, chunks, resets), (MAILS, 0, 0), "{way:?}");
        }
    }
}

// ---- Exim ---------------------------------------------------------------------------------------

#[test]
fn exim_takes_a_thousand_mails_at_each_level_and_depth() {
    let Some(server) = Exim::start() else { return };
    let letters = letters();
    for (way, is_bare) in ways() {
        let begin = server.server().log().len();
        send_all(host(if is_bare { server.bare } else { server.open }, way), way, &letters);
        check_stored(&letters, |_| true, server.take_stored());

        // A mail has an L where PIPELINING was used, L- where it was not, and K behind BDAT.
        let log = &server.server().log()[begin..];
        let taken: Vec<&str> = log.lines().filter(|line| line.contains(" <= ")).collect();
        let of = |mark: &str| taken.iter().filter(|line| line.contains(mark)).count() as u64;
        let (pipelined, chunked) = match way.0 {
            Pipeline::Single => (0, 0),
            Pipeline::Full if !is_bare => (MAILS, MAILS),
            _ => (MAILS, 0),
        };
        assert_eq!(taken.len() as u64, MAILS, "{way:?}");
        assert_eq!((of(" L "), of(" L- "), of(" K ")), (pipelined, MAILS - pipelined, chunked), "{way:?}");
    }
}

// ---- Dovecot ------------------------------------------------------------------------------------

/// The local parts of all recipients.
pub fn users(letters: &[Letter]) -> Vec<String> {
    let all = letters.iter().flat_map(|letter| &letter.to);
    all.map(|to| to.split('@').next().unwrap().to_owned()).collect()
}

#[test]
fn dovecot_takes_a_thousand_mails_by_lmtp_at_each_level_and_depth() {
    let letters = letters();
    let Some(server) = Dovecot::start(&users(&letters)) else { return };
    for (way, _) in ways().filter(|(_, is_bare)| !is_bare) {
        send_all(host(server.lmtp, way).lmtp(), way, &letters);
        check_stored(&letters, |_| true, server.take_stored());
    }
}

#[test]
fn dovecot_takes_a_thousand_mails_over_a_unix_socket_at_each_level_and_depth() {
    let letters = letters();
    let Some(server) = Dovecot::start(&users(&letters)) else { return };
    for (way, _) in ways().filter(|(_, is_bare)| !is_bare) {
        let host = Host::unix(&server.socket).hello("client.example").pipeline(way.0).depth(way.1);
        send_all(host.lmtp(), way, &letters);
        check_stored(&letters, |_| true, server.take_stored());
    }
}
