//! A server that speaks TLS 1.3, which one of native-tls never does over OpenSSL: a thread per
//! connection, and of SMTP only what the client of this benchmark says.
//!
//! It serves in the clear too, so that TLS is compared with the same server without it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod, SslVersion};
use openssl::x509::X509;
use socket2::{Domain, Socket, Type};

use crate::support::{Result, server};

/// A thousand threads of the usual size would be two gigabytes of addresses.
const STACK: usize = 256 * 1024;

/// Connections that may wait to be accepted: the client opens all of its sessions at once, and
/// waits for the greeting of one that was dropped.
const BACKLOG: i32 = 4096;

/// Serves under TLS 1.3 with this chain and key, or in the clear.
pub fn serve(identity: Option<(&[u8], &[u8])>) -> Result<()> {
    let acceptor = identity.map(|(chain, key)| acceptor(chain, key)).transpose()?;
    let listener = listen()?;
    let address = listener.local_addr()?;
    let mails = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&mails);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (acceptor, mails) = (acceptor.clone(), Arc::clone(&counter));
            let serve = move || serve_one(socket, acceptor.as_ref(), &mails);
            // Without a thread the client sees its connection closed, and says so.
            let _ = thread::Builder::new().stack_size(STACK).spawn(serve);
        }
    });
    server::stand(address)?;
    println!("{}", mails.load(Ordering::Acquire));
    Ok(())
}

fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn acceptor(chain: &[u8], key: &[u8]) -> Result<SslAcceptor> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    let certificate = X509::from_pem(chain)?;
    builder.set_certificate(&certificate)?;
    builder.set_private_key(PKey::private_key_from_pem(key)?.as_ref())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    Ok(builder.build())
}

/// A connection that fails is the client's to tell of.
fn serve_one(socket: TcpStream, acceptor: Option<&SslAcceptor>, mails: &AtomicUsize) -> io::Result<()> {
    socket.set_nodelay(true)?;
    match acceptor {
        None => converse(socket, mails),
        Some(acceptor) => converse(acceptor.accept(socket).map_err(io::Error::other)?, mails),
    }
}

fn converse(mut stream: impl Read + Write, mails: &AtomicUsize) -> io::Result<()> {
    stream.write_all(b"220 localhost ESMTP\r\n")?;
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        match line.get(..4).unwrap_or_default() {
            b"DATA" => {
                stream.get_mut().write_all(b"354 go on\r\n")?;
                take_content(&mut stream, &mut line)?;
                mails.fetch_add(1, Ordering::AcqRel);
                stream.get_mut().write_all(b"250 taken\r\n")?;
            }
            b"QUIT" => return stream.get_mut().write_all(b"221 bye\r\n"),
            _ => stream.get_mut().write_all(b"250 localhost\r\n")?,
        }
    }
}

/// Reads a content to the line with nothing but a dot.
fn take_content(stream: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    while line != b".\r\n" {
        line.clear();
        if stream.read_until(b'\n', line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
