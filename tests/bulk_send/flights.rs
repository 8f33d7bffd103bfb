//! What the main job does of extensions: levels, depth, LMTP, Unix sockets, and addresses and
//! contents beyond ASCII.

use std::sync::Arc;
use std::time::Duration;

use smtp_bulk::sink::{Builder, Circumstance, Extension, Fault, Mail, Misdeed, Sink, Step as At};

use super::support::sink;
use super::{Folder, Run, address, bulk_send};

/// A server that offers all that the levels can use.
fn quick(set: impl FnOnce(Builder) -> Builder) -> Arc<Sink> {
    sink(|sink| set(sink.announce(Extension::Pipelining).announce(Extension::Chunking)))
}

/// Counts the commands at this step that came so, and does nothing about them.
fn counting(step: At, circumstance: Circumstance) -> Fault {
    Fault::new(step, Misdeed::Delay(Duration::ZERO)).when(circumstance)
}

/// Sends that many mails through two sessions, which have to arrive.
fn send(server: &Sink, count: u64, arguments: &[&str]) -> Run {
    let (host, count) = (address(server), count.to_string());
    let all = [&["--host", &host, "--count", &count, "--threads", "2", "--json"], arguments].concat();
    let run = bulk_send(&all);
    assert_eq!((run.code, run.complaints()), (Some(0), vec![]), "{arguments:?}: {}", run.err);
    assert_eq!(run.figure("delivered").to_string(), count);
    assert_eq!(server.counts().protocol_errors, 0, "{arguments:?}");
    run
}

fn chunks(server: &Sink) -> usize {
    server.mails().iter().map(|mail| mail.chunks).sum()
}

/// The mail to this recipient, as it was named on the wire.
fn mail_to(server: &Sink, to: &str) -> Arc<Mail> {
    let mails = server.mails();
    let found = mails.iter().find(|mail| mail.forward_paths == [to]);
    Arc::clone(found.unwrap_or_else(|| panic!("{to} is not in {mails:?}")))
}

// ---- levels and depth ---------------------------------------------------------------------------

#[test]
fn a_level_says_how_much_is_written_at_once() {
    for (level, followed, chunked) in [("0", 0, 0), ("1", 6, 0), ("2", 6, 6)] {
        let server = quick(|sink| sink.fault(counting(At::Mail, Circumstance::Followed)));
        send(&server, 6, &["--pipeline", level]);
        assert_eq!(server.counts().faults, followed, "level {level}: MAIL with more behind it");
        assert_eq!(chunks(&server), chunked, "level {level}: BDAT in the place of DATA");
    }
}

#[test]
fn without_chunking_level_2_writes_the_next_envelope_behind_a_content() {
    for (level, together) in [("1", 0..=0), ("2", 1..=5)] {
        let server = sink(|sink| {
            sink.announce(Extension::Pipelining).fault(counting(At::Mail, Circumstance::BehindContent))
        });
        send(&server, 12, &["--pipeline", level]);
        let seen = server.counts().faults;
        assert!(together.contains(&seen) || (level == "2" && seen > 1), "level {level}: {seen}");
        assert_eq!(chunks(&server), 0);
    }
}

#[test]
fn nothing_is_pipelined_to_a_server_that_does_not_offer_it() {
    let server = sink(|sink| sink.strict_pipelining().announce(Extension::Chunking));
    send(&server, 6, &["--pipeline", "2", "--depth", "3"]);
}

#[test]
fn a_server_that_does_not_stand_its_level_gets_less_and_that_is_told() {
    // What it refuses stands behind a content; whether that was taken, it says.
    let refusal = Misdeed::Refuse(503, "5.5.1 out of sequence".to_owned());
    let server = sink(|sink| {
        let fault = Fault::new(At::Mail, refusal).when(Circumstance::BehindContent);
        sink.announce(Extension::Pipelining).fault(fault)
    });
    let (host, folder) = (address(&server), Folder::new());
    let pattern = folder.path("log");
    for debug in [&[][..], &["--debug", "5", "--debug-path", &pattern]] {
        let mails = server.counts().mails;
        let arguments = ["--host", &host, "--count", "20", "--threads", "2", "--pipeline", "2", "--json"];
        let run = bulk_send(&[&arguments, debug].concat());
        assert_eq!((run.code, run.figure("delivered")), (Some(0), 20), "{}", run.err);
        let told = ["warning: 127.0.0.1: it does not stand pipelining; level 1 at the most from now on"];
        assert_eq!(run.complaints(), told, "{}", run.err);
        assert_eq!(server.counts().mails - mails, 20);
    }
}

#[test]
fn depth_makes_batches_fewer() {
    for (depth, batches) in [("1", 20), ("5", 4), ("1000", 1)] {
        for level in ["0", "1", "2"] {
            let server = quick(|sink| sink);
            let run = send(&server, 40, &["--depth", depth, "--pipeline", level]);
            assert_eq!(run.figure("batches"), batches, "depth {depth}, level {level}");
        }
    }
}

#[test]
fn at_level_2_the_mails_of_a_batch_leave_together() {
    let server = quick(|sink| sink.fault(counting(At::Mail, Circumstance::BehindContent)));
    send(&server, 40, &["--pipeline", "2", "--depth", "5"]);
    let together = server.counts().faults;
    assert!(together > 0, "no mail came with the one before it");
    assert_eq!(chunks(&server), 40);
}

#[test]
fn the_embedded_server_has_all_that_the_options_need() {
    let run = bulk_send(&["--count", "500", "--pipeline", "2", "--depth", "5", "--json"]);
    assert_eq!((run.code, run.complaints()), (Some(0), vec![]), "{}", run.err);
    assert_eq!((run.figure("delivered"), run.figure("batches")), (500, 1));

    let folder = Folder::new();
    let list = folder.file("list", "ä@example.net\n");
    let arguments = ["--threads", "1", "--recipients", &list, "--pipeline", "2", "--debug", "10", "--json"];
    let run = bulk_send(&arguments);
    assert_eq!((run.code, run.figure("delivered")), (Some(0), 1), "{}", run.err);
    for said in ["> EHLO ", " SIZE=", " BODY=8BITMIME", " SMTPUTF8", "> RCPT TO:<ä@example.net>", "> BDAT "]
    {
        assert!(run.err.contains(said), "{said} was not said: {}", run.err);
    }
    assert!(run.err.contains("DSN"), "{}", run.err);

    let run = bulk_send(&["--count", "5", "--threads", "1", "--lmtp", "--debug", "10", "--json"]);
    assert_eq!((run.code, run.figure("delivered")), (Some(0), 5), "{}", run.err);
    assert!(run.err.contains("> LHLO ") && !run.err.contains("> EHLO "), "{}", run.err);
}

// ---- LMTP ---------------------------------------------------------------------------------------

#[test]
fn in_lmtp_the_final_reply_is_each_recipients_own() {
    for level in ["0", "1", "2"] {
        let full = Fault::new(At::Dot, Misdeed::refuse(552, "5.2.2 mailbox full"));
        let server = quick(|sink| sink.lmtp().fault(full.address_prefix("full")));
        let folder = Folder::new();
        let list = folder.file("list", "a@x.example\nfull@x.example\nb@x.example\n");
        let failed = folder.path("failed.csv");
        let host = address(&server);
        let run = bulk_send(&[
            "--host",
            &host,
            "--lmtp",
            "--pipeline",
            level,
            "--threads",
            "1",
            "--hello",
            "client.example",
            "--from",
            "a@b.example",
            "--recipients",
            &list,
            "--failed",
            &failed,
            "--json",
        ]);
        assert_eq!((run.code, run.complaints()), (Some(1), vec![]), "{}", run.err);
        run.check_sum();
        assert_eq!((run.figure("delivered"), run.figure("refused")), (2, 1));
        let [row] = &folder.rows("failed.csv")[..] else { panic!("one row") };
        assert_eq!(row[..2], ["full@x.example", "refused"], "{row:?}");
        assert!(row[2].ends_with(" at 127.0.0.1: 552 5.2.2 mailbox full"), "{row:?}");
        let counts = server.counts();
        assert_eq!((counts.mails, counts.resets, counts.protocol_errors), (2, 0, 0), "level {level}");
        assert!(server.mails().iter().all(|mail| mail.helo == "client.example"));
    }
}

// ---- Unix sockets -------------------------------------------------------------------------------

#[cfg(unix)]
#[test]
fn it_sends_over_unix_sockets_and_tcp_at_once() {
    let folder = Folder::new();
    let (first, second) = (folder.path("first.sock"), folder.path("second.sock"));
    let servers =
        [quick(|sink| sink.unix_path(&first)), quick(|sink| sink.unix_path(&second)), quick(|sink| sink)];
    let pattern = folder.path("log/[HOST]-[THREAD]");
    let run = bulk_send(&[
        "--unix",
        &first,
        "--host",
        &address(&servers[2]),
        "--unix",
        &second,
        "--threads",
        "1",
        "--count",
        "6",
        "--debug",
        "10",
        "--debug-path",
        &pattern,
        "--json",
    ]);
    assert_eq!((run.code, run.complaints()), (Some(0), vec![]), "{}", run.err);
    for server in &servers {
        assert_eq!(server.counts().mails, 2, "each has its share");
    }
    // The path is one name, in the folder that was meant.
    let name = first.replace('/', "_");
    let wire = folder.read(&format!("log/{name}-0"));
    assert!(wire.contains(&format!(" {first}:0 > EHLO ")), "{wire}");
    assert_eq!(std::fs::read_dir(folder.path("log")).unwrap().count(), 4, "one for each, and the summary's");
}

#[cfg(unix)]
#[test]
fn lmtp_over_a_unix_socket_names_the_path_in_what_failed() {
    let folder = Folder::new();
    let path = folder.path("lmtp.sock");
    let no = Fault::new(At::Dot, Misdeed::refuse(550, "5.2.1 disabled")).address_prefix("user0000002");
    let server = quick(|sink| sink.lmtp().unix_path(&path).fault(no));
    let failed = folder.path("failed.csv");
    let run = bulk_send(&["--unix", &path, "--lmtp", "--count", "4", "--failed", &failed, "--json"]);
    assert_eq!((run.code, run.complaints()), (Some(1), vec![]), "{}", run.err);
    assert_eq!((run.figure("delivered"), run.figure("refused")), (3, 1));
    let [row] = &folder.rows("failed.csv")[..] else { panic!("one row") };
    assert!(row.iter().any(|value| value.ends_with(&format!(" at {path}: 550 5.2.1 disabled"))), "{row:?}");
    assert_eq!(server.counts().mails, 3);
}

#[cfg(unix)]
#[test]
fn a_path_where_nobody_listens_is_named() {
    let folder = Folder::new();
    let (path, failed) = (folder.path("nobody.sock"), folder.path("failed.csv"));
    let run = bulk_send(&["--unix", &path, "--count", "5", "--threads", "1", "--failed", &failed, "--json"]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    let [complaint] = run.complaints()[..] else { panic!("one line: {}", run.err) };
    let beginning = format!("no server is left to send to: {path}:0 connect_fail ");
    assert!(complaint.starts_with(&beginning) && complaint.contains("No such file"), "{complaint}");
    assert_eq!((run.figure("taken"), run.figure("unsent")), (5, 5));
    assert_eq!(folder.rows("failed.csv").len(), 5);
}

// ---- addresses and contents beyond ASCII --------------------------------------------------------

#[test]
fn addresses_beyond_ascii_need_smtputf8_only_for_their_names() {
    let server = sink(|sink| sink.announce(Extension::SmtpUtf8));
    let plain = sink(|sink| sink);
    let folder = Folder::new();
    let list = folder.file("list", "ä@x.example\nbob@bücher.example\n");
    let (failed, rest) = (folder.path("failed.csv"), folder.path("rest.csv"));
    let run = |server: &Sink, list: &str, failed: &str| {
        let host = address(server);
        let arguments = ["--hello", "müller.example", "--from", "news@bücher.example", "--recipients", list];
        bulk_send(&[&["--host", &host, "--failed", failed, "--json"], &arguments[..]].concat())
    };
    let first = run(&plain, &list, &failed);
    assert_eq!((first.code, first.complaints()), (Some(1), vec![]), "{}", first.err);
    assert_eq!((first.figure("delivered"), first.figure("refused")), (1, 1));
    let [row] = &folder.rows("failed.csv")[..] else { panic!("one row") };
    assert!(row[0] == "ä@x.example" && row[2].contains("needs SMTPUTF8"), "{row:?}");
    let mail = mail_to(&plain, "bob@xn--bcher-kva.example");
    assert_eq!(mail.reverse_path, "news@xn--bcher-kva.example");
    assert_eq!((mail.helo.as_str(), mail.parameters.as_str()), ("xn--mller-kva.example", ""));

    // What one server cannot take another can.
    let second = run(&server, &failed, &rest);
    assert_eq!((second.code, second.complaints()), (Some(0), vec![]), "{}", second.err);
    let mail = mail_to(&server, "ä@x.example");
    assert!(mail.parameters.contains("SMTPUTF8"), "{mail:?}");
    assert_eq!((plain.counts().protocol_errors, server.counts().protocol_errors), (0, 0));
}

#[test]
fn a_content_is_called_8bit_when_it_may_be() {
    let (modern, old) = (sink(|sink| sink.announce(Extension::EightBitMime)), sink(|sink| sink));
    let folder = Folder::new();
    let list = folder.file("list.csv", "email,name\na@x.example,Änn\nb@x.example,Bo\n");
    let message = folder.file("mail.eml", "Subject: hello\n\nHello {{name}}\n");
    for server in [&modern, &old] {
        let host = address(server);
        let arguments = ["--recipients", &list, "--message", &message, "--from", "s@x.example"];
        let run = bulk_send(&[&["--host", &host][..], &arguments].concat());
        assert_eq!((run.code, run.complaints()), (Some(0), vec![]), "{}", run.err);
        let mail = mail_to(server, "a@x.example");
        assert!(String::from_utf8_lossy(&mail.content).ends_with("\r\nHello Änn\r\n"), "{mail:?}");
        assert_eq!(mail_to(server, "b@x.example").parameters, "");
    }
    assert_eq!(mail_to(&modern, "a@x.example").parameters, "BODY=8BITMIME");
    assert_eq!(mail_to(&old, "a@x.example").parameters, "");
}

#[test]
fn a_mail_that_is_larger_than_the_server_takes_is_not_sent() {
    let server = sink(|sink| sink.announce(Extension::Size).max_message_size(1000));
    let folder = Folder::new();
    let failed = folder.path("failed.csv");
    let run = bulk_send(&["--host", &address(&server), "--count", "2", "--failed", &failed, "--json"]);
    assert_eq!((run.code, run.figure("refused")), (Some(1), 2), "{}", run.err);
    let why = |row: &Vec<String>| row.iter().any(|value| value.contains("and the server takes 1000"));
    assert!(folder.rows("failed.csv").iter().all(why), "{:?}", folder.rows("failed.csv"));
    assert_eq!((server.counts().refused, server.counts().bytes), (0, 0), "nothing of it was sent");
}
