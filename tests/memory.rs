//! A run of any length needs the memory of its first mails: what the mailer's thread holds, and
//! what the process has in memory, is the same at the end as after the first 10,000.

use std::time::Instant;

use allocation_counter::measure;
use smol::future::block_on;
use smtp_bulk::sink::{Keep, Sink};
use smtp_bulk::{Envelope, Host, Mailer, Message};

const LANES: u32 = 50;
const WARM: u64 = 10_000;

/// Room for what the allocator and other threads do with the pages that they keep.
const SLACK_KIB: u64 = 1024;

/// A mail that is made when it is asked for, as from a table of a million rows. Sizes differ, so
/// that the pieces given back do not always fit.
fn message(number: u64) -> Message {
    let to = format!("user{number}@example{}.net", number % 97);
    let envelope = Envelope::parse("news@example.org", [to]).unwrap();
    let line = "A line of text, as in a letter to many.\r\n";
    let text = format!("Subject: mail {number}\r\n\r\n{}", line.repeat((number % 61) as usize));
    Message::new(envelope, text).id(number)
}

/// What the process has in memory, in KiB.
#[cfg(target_os = "linux")]
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Some(line.trim().trim_end_matches(" kB").parse().unwrap())
}

#[cfg(not(target_os = "linux"))]
fn resident() -> Option<u64> {
    None
}

fn memory_stays_flat(mails: u64) {
    let sink = Sink::builder().keep(Keep::Nothing).start().unwrap();
    let host = Host::new("127.0.0.1").port(sink.port()).threads(LANES);
    let started = Instant::now();
    let builder = Mailer::builder().host(host).on_report(|report| drop(report.message));
    let mut mailer = block_on(builder.connect()).unwrap();
    let mut all = (0..mails).map(message);

    block_on(mailer.send_all(all.by_ref().take(WARM as usize))).unwrap();
    assert_eq!(mailer.summary().mails.delivered, WARM);
    let warm = resident();
    let used = measure(|| block_on(mailer.send_all(&mut all)).unwrap());
    let end = resident();

    assert_eq!(mailer.summary().mails.delivered, mails, "nothing is held any more");
    assert_eq!(used.bytes_current, 0, "{used:?}");
    // What is alive at once: each lane's mail, and little else.
    assert!(used.bytes_max < u64::from(LANES) * 4096, "{used:?}");
    println!("{mails} mails in {:?}: {warm:?} KiB, then {end:?} KiB; {used:?}", started.elapsed());
    if let (Some(warm), Some(end)) = (warm, end) {
        assert!(end <= warm + SLACK_KIB, "{warm} KiB after {WARM} mails, {end} KiB after {mails}");
    }
    let summary = block_on(mailer.quit()).unwrap();
    assert_eq!((summary.taken, summary.mails.delivered), (mails, mails));
    assert_eq!(sink.counts().mails, mails);
}

#[test]
fn fifty_thousand_mails_need_the_memory_of_ten_thousand() {
    memory_stays_flat(50_000);
}

#[test]
#[ignore = "takes more than a minute; .ci/run runs it"]
fn a_million_mails_need_the_memory_of_ten_thousand() {
    memory_stays_flat(1_000_000);
}
