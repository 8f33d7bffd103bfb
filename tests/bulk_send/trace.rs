//! The picture that the main job draws of its sessions.

use std::fs;
use std::time::Duration;

use smtp_bulk::sink::{Extension, Fault, Misdeed, Sink, Step as At};

use super::support::sink;
use super::{Folder, Run, address, bulk_send};

/// Sends that many mails through four sessions, and has them drawn.
fn draw(server: &Sink, folder: &Folder, count: u64, arguments: &[&str]) -> (Run, String) {
    let (host, count, picture) = (address(server), count.to_string(), folder.path("t.html"));
    let all = ["--host", &host, "--count", &count, "--threads", "4", "--json", "--trace", &picture];
    let run = bulk_send(&[&all, arguments].concat());
    let page = folder.read("t.html");
    check(&page);
    (run, page)
}

/// That it is a whole page whose elements are closed in their turn, and that loads nothing.
fn check(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>\n").expect("a page");
    let mut open: Vec<&str> = Vec::new();
    for piece in body.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').expect("a tag");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{piece}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty() && page.ends_with("</html>\n"), "{open:?}");
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href="));
}

fn has(page: &str, class: &str) -> bool {
    page.contains(&format!("<rect class=\"{class}\" x="))
}

#[test]
fn the_picture_shows_who_held_up_whom() {
    let folder = Folder::new();
    // Of the first batch one is late; of the second one is refused, and one is cut off.
    let server = sink(|sink| {
        let late = Fault::new(At::Rcpt, Misdeed::Delay(Duration::from_millis(700)));
        let cut = Fault::new(At::Data, Misdeed::Close).skip(6).times(1);
        sink.fault(late.address_prefix("user0000002@")).fault(cut).refuse_recipients("user0000005@", 550)
    });
    folder.file("t.html", "of another run");
    let (run, page) = draw(&server, &folder, 20, &[]);
    assert_eq!((run.code, run.complaints()), (Some(1), vec![]), "{}", run.err);
    assert_eq!((run.figure("delivered"), run.figure("refused")), (19, 1));
    assert_eq!(page.matches("<g transform=").count(), 4, "a row for each session");
    for thread in 0..4 {
        assert!(page.contains(&format!("\">127.0.0.1:{thread}</div>")), "{thread}");
    }
    for class in ["o", "m", "r", "d", "c", "w", "n", "h", "e", "x"] {
        assert!(has(&page, class), "{class}: {page}");
    }
    let waits = (0..4).filter(|thread| {
        let waiting = format!("<title>127.0.0.1:{thread} 7");
        page.lines().any(|line| line.contains(&waiting) && line.contains(" ms waiting for 127.0.0.1:1<"))
    });
    assert_eq!(waits.count(), 3, "all the others wait for one, and for all of its time: {page}");
    let table = page.lines().find(|line| line.starts_with("<tr><td>")).unwrap();
    assert!(table.starts_with("<tr><td>127.0.0.1:1</td><td>7"), "{table}");
}

#[test]
fn every_pace_and_level_can_be_drawn() {
    let folder = Folder::new();
    for arguments in [
        ["--pace", "free"].as_slice(),
        &["--pace", "quorum:0.5:0.001"],
        &["--pipeline", "1"],
        &["--pipeline", "2", "--depth", "4"],
    ] {
        let server = sink(|sink| sink.announce(Extension::Pipelining).announce(Extension::Chunking));
        let (run, page) = draw(&server, &folder, 1000, arguments);
        assert_eq!((run.code, run.complaints()), (Some(0), vec![]), "{arguments:?}: {}", run.err);
        assert_eq!(page.matches("<g transform=").count(), 4, "{arguments:?}");
        let class = if arguments.contains(&"--pipeline") { "f" } else { "c" };
        assert!(has(&page, class), "{arguments:?}");
    }
}

#[test]
fn a_run_that_fails_is_drawn_up_to_its_end() {
    let folder = Folder::new();
    let server = sink(|sink| sink.fault(Fault::new(At::Mail, Misdeed::Close421).skip(6)));
    let (run, page) = draw(&server, &folder, 40, &[]);
    assert_eq!((run.code, run.figure("delivered")), (Some(1), 6), "{}", run.err);
    assert!(has(&page, "n") && has(&page, "b"), "refused with 421, and without a connection: {page}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_shows_what_it_hung_at() {
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    use super::support::PATIENCE;

    let server = sink(|sink| sink.fault(Fault::new(At::Rcpt, Misdeed::Hang).address_prefix("user0000002@")));
    let folder = Folder::new();
    let (host, picture) = (address(&server), folder.path("t.html"));
    let child = Command::new(super::program())
        .args(["--host", &host, "--count", "30", "--threads", "2", "--trace", &picture, "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    server.wait_for(|counts| counts.faults == 1, PATIENCE).expect("a lane hangs");
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // One lets it finish, which the hang does not; two may come as one.
    let patience = std::time::Instant::now() + PATIENCE;
    let page = || fs::read_to_string(&picture).unwrap_or_default();
    while page().is_empty() && std::time::Instant::now() < patience {
        kill_process(id, Signal::INT).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(1), "{}", run.err);
    check(&page());
    assert!(has(&page(), "g"), "{}", page());
    let blamed = page()
        .lines()
        .any(|line| line.contains("127.0.0.1:0 ") && line.contains(" waiting for 127.0.0.1:1<"));
    assert!(blamed, "{}", page());
}

#[test]
fn a_picture_that_cannot_be_drawn_is_bad_input_before_anything_is_connected() {
    let folder = Folder::new();
    let server = sink(|sink| sink);
    let (host, list) = (address(&server), folder.file("list", "a@x.example\n"));
    let failed = folder.file("failed.csv", "precious\n");
    let nowhere = folder.path("none/t.html");
    for (picture, beginning) in [
        (&nowhere, format!("{nowhere}: cannot write: No such file")),
        (&list, format!("{list}: cannot take the picture of --trace too")),
        (&failed, format!("{failed}: cannot take the picture of --trace too")),
    ] {
        let files = ["--recipients", &list, "--failed", &failed, "--trace", picture];
        let run = bulk_send(&[&["--host", &host], &files[..]].concat());
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{}", run.err);
        let [complaint] = run.complaints()[..] else { panic!("one line: {}", run.err) };
        assert!(complaint.starts_with(&beginning), "{complaint}");
    }
    // Nor is one of another run lost for a setting that is wrong.
    let picture = folder.file("t.html", "precious\n");
    let wrong = ["--count", "3", "--debug", "5", "--debug-path", "/proc/none/[HOST]", "--trace", &picture];
    assert_eq!(bulk_send(&[&["--host", &host], &wrong[..]].concat()).code, Some(2));
    assert_eq!(
        (folder.read("list"), folder.read("failed.csv")),
        ("a@x.example\n".into(), "precious\n".into())
    );
    assert_eq!(folder.read("t.html"), "precious\n");
    assert_eq!(server.counts().connections, 0);
}
