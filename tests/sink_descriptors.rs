//! The embedded server in a process that has run out of file descriptors. The only test here,
//! because the limit is the whole process's.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use smtp_bulk::sink::Sink;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn clients_wait_while_descriptors_are_short_and_none_is_lost() {
    let sink = Sink::start().unwrap();
    let connect = || {
        let stream = TcpStream::connect(sink.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        std::io::Result::Ok(BufReader::new(stream))
    };
    let greeted = |client: &mut BufReader<TcpStream>| {
        let mut greeting = String::new();
        client.read_line(&mut greeting).unwrap();
        assert!(greeting.starts_with("220 "), "{greeting}");
    };
    let mut first = connect().unwrap();
    greeted(&mut first);
    let spare = File::open("/dev/null").unwrap();
    let few = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, few).unwrap();

    let mut clients = Vec::new();
    while let Ok(client) = connect() {
        clients.push(client);
    }
    // Every descriptor is taken. If the server had accepted all so far, the spare one makes a
    // client that it cannot accept; if not, one of them may take it.
    drop(spare);
    clients.extend(connect());
    let count = clients.len() as u64 + 1;
    assert!(sink.counts().open < count);

    // Each that ends makes room for others.
    drop(first);
    for mut client in clients {
        greeted(&mut client);
    }
    sink.wait_for(|counts| counts.connections == count && counts.open == 0, PATIENCE).unwrap();
}
