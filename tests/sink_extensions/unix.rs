//! Unix sockets.

use std::io;
use std::os::unix::net::UnixStream;

use smtp_bulk::sink::{Fault, Misdeed, Sink, Step};

use super::raw::{Client, PATIENCE, wait};

fn connect(sink: &Sink) -> Client<UnixStream> {
    let stream = UnixStream::connect(sink.unix_path().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Client::over(stream)
}

#[test]
fn a_path_is_served_beside_the_port() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("socket");
    let sink = Sink::builder().unix_path(&path).start().unwrap();
    assert_eq!(sink.unix_path(), Some(path.as_path()));
    let mut client = connect(&sink);
    client.hello();
    client.mail();
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<b@b.example>", "250");
    client.expect("DATA", "354");
    client.send("0123456789\r\n".repeat(100_000));
    client.expect(".", "250");
    client.expect("QUIT", "221");
    assert_eq!(client.rest(), b"");
    drop(client);
    let mut client = Client::ready(&sink);
    client.mail();
    drop(client);
    let counts = wait(&sink, |counts| counts.open == 0);
    assert_eq!((counts.mails, counts.connections, counts.lost), (3, 2, 1));
    assert_eq!(sink.mails()[1].content.len(), 1_200_000);
    assert_eq!(Sink::start().unwrap().unix_path(), None);
}

#[test]
fn a_close_is_seen_over_a_path_too() {
    let place = tempfile::tempdir().unwrap();
    let no = Fault::new(Step::Mail, Misdeed::Close421);
    let sink = Sink::builder().unix_path(place.path().join("socket")).fault(no).start().unwrap();
    let mut client = connect(&sink);
    client.hello();
    client.expect("MAIL FROM:<a@b.example>", "421");
    assert_eq!(client.rest(), b"");
}

#[test]
fn the_path_goes_with_the_server() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("socket");
    let mut sink = Sink::builder().unix_path(&path).start().unwrap();
    let mut client = connect(&sink);
    client.hello();
    let taken = Sink::builder().unix_path(&path).start();
    assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert!(path.exists(), "another's socket is left alone");
    sink.stop();
    assert!(!path.exists());
    assert_eq!(client.rest(), b"");
    assert_eq!(sink.unix_path(), Some(path.as_path()));

    let second = Sink::builder().unix_path(&path).start().unwrap();
    drop(sink);
    assert!(path.exists(), "what was removed once is not removed again");
    drop(second);
    assert!(!path.exists());
    assert!(Sink::builder().unix_path(place.path().join("none/socket")).start().is_err());
}
