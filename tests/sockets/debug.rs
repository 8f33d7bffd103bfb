//! The debug output of a mailer: what each level writes, and that no disk ever stops the mail.

use std::fs;
use std::path::Path;

use smtp_bulk::sink::{Fault, Misdeed, Step as At};
use smtp_bulk::{Error, Summary};

use crate::support::{Log, builder, check_accounts, host, mail, run, send_and_quit, sink};

/// Sends four mails, of which one is refused and one hangs up, and returns what is in the files.
fn written(level: u8, threads: u32, pattern: &str, folder: &Path) -> (String, Summary) {
    let sink = sink(|sink| {
        let closes = Fault::new(At::Data, Misdeed::Close).times(1);
        sink.refuse_recipients("r2@", 550).fault(closes)
    });
    let log = Log::default();
    let mailer = builder(&log).host(host(&sink)).threads(threads).debug(level).debug_path(pattern);
    let summary = send_and_quit(mailer, (0..4).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, summary.mails.refused), (3, 1));
    (read_all(folder), summary)
}

/// All files below a folder, one behind the other.
fn read_all(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        text += &if path.is_dir() { read_all(&path) } else { fs::read_to_string(&path).unwrap() };
    }
    text
}

fn count(text: &str, what: &str) -> usize {
    text.lines().filter(|line| line.contains(what)).count()
}

#[test]
fn each_level_writes_its_share() {
    for level in [0, 1, 5, 7, 8, 10, 200] {
        let folder = tempfile::tempdir().unwrap();
        let pattern = folder.path().join("smtp.log");
        let (text, _) = written(level, 1, pattern.to_str().unwrap(), folder.path());
        let has = |from: u8, what: &str, times: usize| {
            let expected = if level >= from { times } else { 0 };
            assert_eq!(count(&text, what), expected, "{what:?} at level {level}:\n{text}");
        };
        has(5, "quit -: 4 taken, 3 delivered, 1 refused, 1 requeued", 1);
        has(7, " fail RCPT 2 <r2@example.net> ", 1);
        has(7, " hang DATA ", 1);
        has(7, "report 2: refused: 550 5.1.1 Recipient refused", 1);
        has(8, " connect_pass ", 1);
        has(8, " reconnect_pass ", 1);
        has(8, ": delivered: 250 2.6.0 Mail accepted", 3);
        has(10, "> EHLO [127.0.0.1]", 2);
        has(10, "> MAIL FROM:<sender@example.org>", 5);
        has(10, "> Subject: mail 3", 1);
        has(10, "> ..dots", 0);
        has(10, "> ...dots", 3);
        has(10, "< 354 ", 3);
        has(10, "> QUIT", 1);
        assert_eq!(text.is_empty(), level < 5, "level {level}:\n{text}");
    }
}

#[test]
fn every_lane_can_have_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let pattern = folder.path().join("[YYYY]/[MM]-[DD]/[HOST]/[THREAD].log");
    let (text, _) = written(10, 2, pattern.to_str().unwrap(), folder.path());
    assert!(count(&text, "> EHLO") >= 2, "{text}");
    let days: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|year| year.unwrap().path()).collect();
    let hosts: Vec<_> =
        days.iter().flat_map(|year| fs::read_dir(year).unwrap()).map(|day| day.unwrap().path()).collect();
    // The test may run at midnight, and then has two of them.
    for host in hosts {
        for (thread, other) in [(0, 1), (1, 0)] {
            let lane = fs::read_to_string(host.join(format!("127.0.0.1/{thread}.log"))).unwrap_or_default();
            assert_eq!(count(&lane, &format!("127.0.0.1:{other} ")), 0);
        }
    }
}

#[test]
fn a_path_that_cannot_be_written_is_an_error_before_anything_is_connected() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let file = tempfile::NamedTempFile::new().unwrap();
    let below_a_file = file.path().join("smtp.log");
    for pattern in ["/proc/no/such/folder/smtp.log", below_a_file.to_str().unwrap(), "a[b", "[HOSTS]", ""] {
        let connecting = builder(&log).host(host(&sink)).debug(5).debug_path(pattern).connect();
        let error = run(connecting).expect_err(pattern);
        assert!(matches!(error, Error::Debug(_)), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    assert_eq!(sink.counts().connections, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_never_stops_the_mail() {
    let folder = tempfile::tempdir().unwrap();
    let (_, summary) = written(10, 2, "/dev/full", folder.path());
    assert_eq!(summary.taken, 4);
}

#[test]
fn a_folder_that_vanishes_never_stops_the_mail() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let folder = tempfile::tempdir().unwrap();
    let pattern = folder.path().join("[HOST]/[THREAD]");
    run(async {
        let mailer =
            builder(&log).host(host(&sink)).threads(2).debug(10).debug_path(pattern.to_str().unwrap());
        let mut mailer = mailer.connect().await.unwrap();
        fs::remove_dir_all(folder.path()).unwrap();
        mailer.send_all((0..6).map(mail)).await.unwrap();
        assert_eq!(mailer.quit().await.unwrap().mails.delivered, 6);
    });
}
