//! What is refused in the middle of a flight, by real servers: the others come exactly once, to the
//! recipients that were not refused alone, and under the return path that is theirs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smtp_bulk::{Backoff, EventKind, Host, HostNews, Pipeline, Step, Summary};

use crate::dovecot::Dovecot;
use crate::exim::Exim;
use crate::flights::{host, postfix};
use crate::mails::{Letter, check_stored};
use crate::stored::{Store, Stored};
use crate::support::{self, Log, PATIENCE, send_and_quit};

/// The ways at which a refusal has company.
const TOGETHER: [(Pipeline, u32); 3] = [(Pipeline::Envelope, 1), (Pipeline::Full, 1), (Pipeline::Full, 8)];

/// Four sessions send these, and each is tried twice at most.
fn send(host: Host, letters: &[Letter]) -> (Summary, Log) {
    let log = Log::default();
    let builder = support::builder(&log).host(host.threads(4)).max_attempts(2);
    let summary = send_and_quit(builder, letters.iter().map(Letter::message));
    assert_eq!(summary.mails.total(), letters.len() as u64, "{summary}");
    (summary, log)
}

/// Whether a server of these tests takes mail for a recipient.
fn is_taken(recipient: &str) -> bool {
    !recipient.starts_with("reject") && !recipient.starts_with("defer")
}

/// Every mail of some number has something that is refused.
fn letters() -> Vec<Letter> {
    (0..200)
        .map(|id| match id % 10 {
            1 => Letter::plain(id).to(&["reject"]),
            3 => Letter::plain(id).to(&["r", "reject", "s"]),
            4 => Letter::plain(id).to(&["reject", "reject-too", "r"]),
            6 => Letter::plain(id).to(&["defer"]),
            7 => Letter::plain(id).to(&["defer", "r"]),
            9 => Letter { is_of_unknown_length: false, ..Letter::too_large(id) },
            _ => Letter::varied(id),
        })
        .collect()
}

/// The name of the outcome of such a mail.
fn outcome(id: u64) -> &'static str {
    match id % 10 {
        1 | 9 => "refused",
        3 | 4 | 7 => "partial",
        6 => "abandoned",
        _ => "delivered",
    }
}

/// Sends the lot in each way and looks at what has become of it.
fn check_refusals(server: &impl Store, port: u16, way: (Pipeline, u32)) {
    let letters = letters();
    let (summary, log) = send(host(port, way), &letters);
    for (id, told) in log.outcomes() {
        assert_eq!(told, outcome(id), "{way:?}, mail {id}: {:?}", log.trouble());
    }
    // Nobody loses a session for it; at level 2 those with many refusals are renewed.
    let connections = summary.hosts[0].connections;
    let is_fine = if way.0 == Pipeline::Full { (4..40).contains(&connections) } else { connections == 4 };
    assert!(is_fine, "{way:?}, {connections} connections: {:?}", log.trouble());
    assert_eq!(log.of_kind(EventKind::Hang).len(), 0, "{way:?}");
    // What we know to be too large is not sent.
    assert!(log.trouble().iter().all(|seen| seen.step != Step::Content), "{way:?}: {:?}", log.trouble());
    let sent: Vec<Letter> = letters.into_iter().filter(|letter| letter.id % 10 != 9).collect();
    check_stored(&sent, is_taken, server.take_stored());
}

#[test]
fn refusals_of_postfix_touch_no_other_mail_of_the_flight() {
    let Some(server) = postfix() else { return };
    for way in TOGETHER {
        check_refusals(&server, server.open, way);
        check_refusals(&server, server.bare, way);
    }
}

#[test]
fn refusals_of_exim_touch_no_other_mail_of_the_flight() {
    let Some(server) = Exim::start() else { return };
    for way in TOGETHER {
        check_refusals(&server, server.open, way);
        check_refusals(&server, server.bare, way);
    }
}

/// A server that puts everything off for a while is given less, is told nobody's mail twice, and has all
/// of its sessions again when it takes mail as before.
fn check_throttle(server: &impl Store, port: u16) {
    let letters: Vec<Letter> = (0..1_000)
        .map(|id| if id < 60 { Letter::plain(id).to(&["defer"]) } else { Letter::plain(id) })
        .collect();
    let (log, news) = (Log::default(), Arc::new(Mutex::new(Vec::new())));
    let heard = Arc::clone(&news);
    let brief = Backoff { base: Duration::from_millis(5), max: Duration::from_millis(20) };
    let builder = support::builder(&log)
        .host(host(port, (Pipeline::Envelope, 1)).threads(20).backoff(brief))
        .max_attempts(1)
        .on_host_change(move |change| heard.lock().unwrap().push(change.news));
    let summary = send_and_quit(builder, letters.iter().map(Letter::message));
    assert_eq!((summary.mails.delivered, summary.mails.abandoned), (940, 60), "{summary}");
    let news = news.lock().unwrap();
    assert!(matches!(news[0], HostNews::Slowed { mails: 10, .. }), "{news:?}");
    assert_eq!(news.last(), Some(&HostNews::Recovered));
    assert_eq!(summary.hosts[0].connections, 20, "none was closed for it: {:?}", log.trouble());
    check_stored(&letters, is_taken, server.take_stored());
}

#[test]
fn postfix_and_exim_are_given_less_while_they_put_mails_off() {
    if let Some(server) = postfix() {
        check_throttle(&server, server.open);
    }
    if let Some(server) = Exim::start() {
        check_throttle(&server, server.open);
    }
}

/// Exim ends a session at the eleventh RSET that stands behind no mail which it took. Whatever was
/// written behind that one is in doubt, and never comes twice.
#[test]
fn a_session_that_exim_ends_for_its_refusals_costs_no_mail_and_doubles_none() {
    let Some(server) = Exim::start() else { return };
    for way in TOGETHER {
        let letters: Vec<Letter> = (0..200)
            .map(|id| if id % 2 == 1 { Letter::plain(id).to(&["reject"]) } else { Letter::plain(id) })
            .collect();
        let (summary, log) = send(host(server.strict, way), &letters);
        let outcomes = log.outcomes();
        assert!(summary.hosts[0].connections > 4, "{way:?}: none was ended");
        let stored = server.take_stored();
        // None of those in doubt was taken, but nobody could know.
        let of = |id: u64| outcomes[&id];
        for id in 0..200 {
            let expected = if id % 2 == 1 { "refused" } else { "delivered" };
            assert!(of(id) == expected || of(id) == "in_doubt", "{way:?}, mail {id}: {}", of(id));
        }
        assert!(way.0 == Pipeline::Full || summary.mails.in_doubt == 0, "{way:?}: {summary}");
        let sent: Vec<Letter> = letters.into_iter().filter(|letter| of(letter.id) == "delivered").collect();
        check_stored(&sent, is_taken, stored);
    }
}

/// Postfix ends a session at the twentieth error behind the last mail that it took, by a 421 in place of the
/// next reply or behind all of them. That puts no mail in doubt and ends no level, however many mails a
/// flight holds.
#[test]
fn a_session_that_postfix_ends_for_its_errors_costs_no_mail_and_no_level() {
    let Some(server) = postfix() else { return };
    for way in [(Pipeline::Single, 1), (Pipeline::Envelope, 1), (Pipeline::Full, 1), (Pipeline::Full, 40)] {
        let letters: Vec<Letter> = (0..200).map(|id| Letter::plain(id).to(&["reject"])).collect();
        let (summary, log) = send(host(server.open, way).max_refusals(40), &letters);
        assert!(log.outcomes().values().all(|&told| told == "refused"), "{way:?}: {summary}");
        assert!(summary.hosts[0].connections > 4, "{way:?}: none was ended: {summary}");
        assert_eq!(summary.hosts[0].pipeline, way.0, "{way:?}");
        assert!(server.take_stored().is_empty(), "{way:?}");
    }
}

/// A flight holds as many mails as the host is said to stand refusals.
#[test]
fn postfix_takes_flights_of_forty_mails() {
    let Some(server) = postfix() else { return };
    let letters: Vec<Letter> = (0..160).map(Letter::plain).collect();
    let (summary, log) = send(host(server.open, (Pipeline::Full, 40)).max_refusals(40), &letters);
    assert!(log.trouble().is_empty(), "{summary} {:?}", log.trouble());
    assert_eq!((summary.mails.delivered, summary.hosts[0].connections), (160, 4), "{summary}");
    check_stored(&letters, is_taken, server.take_stored());
}

// ---- a size that nobody knew --------------------------------------------------------------------

/// Some of these are larger than the server takes, which nobody knows before they are read.
fn check_sizes(server: &impl Store, port: u16, way: (Pipeline, u32)) {
    let letters: Vec<Letter> = (0..80)
        .map(|id| match id % 8 {
            3 => Letter { is_of_unknown_length: true, ..Letter::too_large(id) },
            _ => Letter::varied(id),
        })
        .collect();
    let (summary, log) = send(host(port, way), &letters);
    for (id, told) in log.outcomes() {
        let expected = if id % 8 == 3 { "refused" } else { "delivered" };
        assert_eq!(told, expected, "{way:?}, mail {id}: {:?} {summary}", log.trouble());
    }
    let sent: Vec<Letter> = letters.into_iter().filter(|letter| letter.id % 8 != 3).collect();
    check_stored(&sent, |_| true, server.take_stored());
}

#[test]
fn postfix_refuses_a_size_that_shows_too_late_and_takes_the_others() {
    let Some(server) = postfix() else { return };
    for way in TOGETHER {
        check_sizes(&server, server.open, way);
        check_sizes(&server, server.bare, way);
    }
}

#[test]
fn exim_refuses_a_size_that_shows_too_late_and_takes_the_others() {
    let Some(server) = Exim::start() else { return };
    for way in TOGETHER {
        check_sizes(&server, server.bare, way);
    }
    check_sizes(&server, server.open, TOGETHER[0]);
}

/// Exim leaves the rest of a chunk unread in which it met its limit, and takes it for commands: no chunk
/// may reach beyond the limit.
#[test]
fn no_chunk_to_exim_reaches_beyond_its_limit() {
    let Some(server) = Exim::start() else { return };
    for way in &TOGETHER[1..] {
        check_sizes(&server, server.open, *way);
    }
}

// ---- why it is done so --------------------------------------------------------------------------

/// Sends all of this at once behind a hello, and reads the replies until the server closes.
fn at_once(port: u16, hello: &str, commands: &str) -> Vec<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut replies = String::new();
    // Exim sends away who speaks before it does.
    let mut greeting = [0; 512];
    assert!(stream.read(&mut greeting).unwrap() > 0);
    stream.write_all(format!("{hello} client.example\r\n").as_bytes()).unwrap();
    while !replies.lines().any(|line| line.starts_with("250 ")) {
        let read = stream.read(&mut greeting).unwrap();
        replies += std::str::from_utf8(&greeting[..read]).unwrap();
    }
    replies.clear();
    stream.write_all(commands.as_bytes()).unwrap();
    stream.read_to_string(&mut replies).unwrap();
    let last_lines = replies.lines().filter(|line| line.as_bytes().get(3) == Some(&b' '));
    last_lines.map(str::to_owned).collect()
}

/// A transaction whose only recipient is refused, this, and another transaction, in one flight.
fn behind_a_refusal(server: &impl Store, port: u16, hello: &str, between: &str) -> (Vec<u16>, Vec<Stored>) {
    let chunk = "X-Number: 1\r\n\r\ntext\r\n";
    let transaction = |from: &str, to: &str| {
        format!(
            "MAIL FROM:<{from}@example.org>\r\nRCPT TO:<{to}@example.net>\r\nBDAT {} LAST\r\n{chunk}",
            chunk.len()
        )
    };
    let (first, second) = (transaction("one", "reject"), transaction("two", "r"));
    let replies = at_once(port, hello, &format!("{first}{between}{second}QUIT\r\n"));
    let codes = replies.iter().map(|line| line[..3].parse().unwrap()).collect();
    (codes, server.take_stored())
}

/// What the servers do with the transaction of a BDAT that they refused. Postfix forgets it. Exim and
/// Dovecot keep it: the next mail would get a return path that is not its own, or be refused.
#[test]
fn rset_between_the_mails_of_a_flight_is_needed() {
    let one = |sender: &str| {
        let sender = format!("{sender}@example.org");
        let content = b"X-Number: 1\n\ntext\n".to_vec();
        vec![Stored { recipient: "r@example.net".to_owned(), sender, content }]
    };
    if let Some(server) = postfix() {
        let (codes, stored) = behind_a_refusal(&server, server.open, "EHLO", "");
        assert_eq!((codes, stored), (vec![250, 550, 554, 250, 250, 250, 221], one("two")));
        let (codes, stored) = behind_a_refusal(&server, server.open, "EHLO", "RSET\r\n");
        assert_eq!((codes, stored), (vec![250, 550, 554, 250, 250, 250, 250, 221], one("two")));
    }
    if let Some(server) = Exim::start() {
        let (codes, stored) = behind_a_refusal(&server, server.open, "EHLO", "");
        assert_eq!((codes, stored), (vec![250, 550, 503, 503, 250, 250, 221], one("one")), "not its own");
        let (codes, stored) = behind_a_refusal(&server, server.open, "EHLO", "RSET\r\n");
        assert_eq!((codes, stored), (vec![250, 550, 503, 250, 250, 250, 250, 221], one("two")));
    }
    if let Some(server) = Dovecot::start(&["r".to_owned()]) {
        let (codes, stored) = behind_a_refusal(&server, server.lmtp, "LHLO", "");
        assert_eq!((codes, stored), (vec![250, 550, 503, 503, 250, 503, 221], vec![]), "never delivered");
        let (codes, stored) = behind_a_refusal(&server, server.lmtp, "LHLO", "RSET\r\n");
        assert_eq!((codes, stored), (vec![250, 550, 503, 250, 250, 250, 250, 221], one("two")));
    }
}

/// What stands behind Exim's limit in a chunk is obeyed, when it comes a moment later: it delivers a mail
/// that is nothing but a part of another's content.
#[test]
fn exim_obeys_what_it_has_not_read_of_a_chunk() {
    let Some(server) = Exim::start() else { return };
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.open)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    let mut reply = || loop {
        let mut line = String::new();
        assert!(replies.read_line(&mut line).unwrap() > 0);
        if line.as_bytes().get(3) == Some(&b' ') {
            return line;
        }
    };
    assert!(reply().starts_with("220 "));
    // It counts a line end as one octet, and the empty line as none; here is the first octet too many.
    let head = "X-Number: 1\r\n\r\n";
    let first = format!("{head}{}", "0".repeat(200_002 - (head.len() - 2)));
    let inside = "X-Number: 2\r\n\r\ntext\r\n";
    let rest = format!(
        "RSET\r\nMAIL FROM:<inside@example.org>\r\nRCPT TO:<r@example.net>\r\nBDAT {} LAST\r\n{inside}",
        inside.len()
    );
    for command in ["EHLO client.example", "MAIL FROM:<one@example.org>", "RCPT TO:<s@example.net>"] {
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        assert!(reply().starts_with("250 "));
    }
    stream.write_all(format!("BDAT {} LAST\r\n{first}", first.len() + rest.len()).as_bytes()).unwrap();
    assert!(reply().starts_with("552 "));
    stream.write_all(rest.as_bytes()).unwrap();
    for _ in 0..4 {
        assert!(reply().starts_with("250 "));
    }
    let stored = server.take_stored();
    assert_eq!((stored.len(), stored[0].sender.as_str()), (1, "inside@example.org"));
}
