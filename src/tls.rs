//! TLS of a client: what is set for a host made into one context that all of
//! its sessions share, and the handshake and the stream over a connection that
//! never blocks. It must never let an octet through before the certificate,
//! the pins included, is what was asked for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use native_tls::{Certificate, HandshakeError, Identity, MidHandshakeTlsStream, Protocol, TlsConnector};
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};

use crate::security::{
    ClientIdentity, Pin, Security, Source, Tls, TlsFault, TlsProblem, TlsSettings, TlsVersion,
};
use crate::transport::Plain;

/// Most octets that are read of a file of certificates or keys.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// How often one call of the library reads. It reads on by itself for as long as
/// it finds what is not for the application, such as tickets and new keys, of
/// which a server can send any number: others would have to wait for that. A
/// record takes two, and a server's part of a handshake has about six.
const BUDGET: u32 = 32;

/// Octets that are read ahead. The library asks for the head of a record, and
/// then for the rest: with this many most replies need one system call, not two.
const AHEAD: usize = 128;

/// Longest name of a server (RFC 1035 §2.3.4); others are not in ASCII's form.
const MAX_NAME: usize = 253;

/// A setting that cannot be used.
pub(crate) struct BadSetting {
    /// The file, or what was given.
    pub(crate) what: String,
    pub(crate) problem: String,
}

impl BadSetting {
    fn new(what: impl ToString, problem: impl ToString) -> BadSetting {
        BadSetting { what: what.to_string(), problem: problem.to_string() }
    }
}

/// The contexts that were made: hosts whose settings are clones share one.
#[derive(Default)]
pub(crate) struct Contexts(Vec<(Tls, bool, TlsConnector)>);

impl Contexts {
    /// What the sessions of this host use; reads the files that are named.
    pub(crate) fn client(
        &mut self,
        host: &str,
        security: Security,
        own: &Tls,
    ) -> Result<TlsClient, BadSetting> {
        let tls = own.settings();
        let server_name = tls.server_name.as_deref().unwrap_or(host).trim_end_matches('.');
        if server_name.is_empty()
            || server_name.len() > MAX_NAME
            || !server_name.bytes().all(|octet| octet.is_ascii_graphic())
        {
            return Err(BadSetting::new(format!("{server_name:?}"), "this is no name for a server"));
        }
        let pins: Result<Vec<Pin>, _> = tls.pins.iter().cloned().collect();
        let pins = pins
            .map_err(|text| BadSetting::new(format!("pin {text:?}"), "this is no SHA-256 in hexadecimal"))?;
        if pins.is_empty() && tls.pin_only {
            return Err(BadSetting::new("pin_only", "there is no pin"));
        }
        let verifies = security.is_verified() && !tls.pin_only;
        let is_known =
            |(known, verified, _): &&(Tls, bool, TlsConnector)| known.is_same(own) && *verified == verifies;
        let connector = match self.0.iter().find(is_known) {
            Some((.., connector)) => connector.clone(),
            None => {
                let connector = connector(tls, verifies)?;
                self.0.push((own.clone(), verifies, connector.clone()));
                connector
            }
        };
        Ok(TlsClient { connector, server_name: server_name.into(), pins })
    }
}

fn connector(tls: &TlsSettings, verifies: bool) -> Result<TlsConnector, BadSetting> {
    let mut builder = TlsConnector::builder();
    builder.min_protocol_version(Some(match tls.min_version {
        TlsVersion::Tls10 => Protocol::Tlsv10,
        TlsVersion::Tls11 => Protocol::Tlsv11,
        TlsVersion::Tls12 => Protocol::Tlsv12,
        TlsVersion::Tls13 => Protocol::Tlsv13,
    }));
    builder.danger_accept_invalid_certs(!verifies).danger_accept_invalid_hostnames(!verifies);
    if tls.only_these_roots && tls.roots.is_empty() {
        return Err(BadSetting::new("only_these_roots", "there is no root certificate"));
    }
    builder.disable_built_in_roots(tls.only_these_roots);
    for source in &tls.roots {
        for certificate in certificates(source)? {
            builder.add_root_certificate(certificate);
        }
    }
    let what = tls.identity.as_ref().map_or_else(|| "TLS".to_owned(), named);
    if let Some(own) = &tls.identity {
        builder.identity(identity(own)?);
    }
    // A key that is not the certificate's is seen only here.
    builder.build().map_err(|error| BadSetting::new(what, error))
}

/// One certificate in DER, or all of a PEM file, which must have one.
fn certificates(source: &Source) -> Result<Vec<Certificate>, BadSetting> {
    let bytes = read(source)?;
    let is_pem = memchr::memmem::find(&bytes, b"-----BEGIN").is_some();
    let found = if is_pem {
        Certificate::stack_from_pem(&bytes)
    } else {
        Certificate::from_der(&bytes).map(|certificate| vec![certificate])
    };
    match found {
        Ok(certificates) if certificates.is_empty() => {
            Err(BadSetting::new(source, "there is no certificate in it"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(BadSetting::new(source, format!("this is no certificate in PEM or DER: {error}"))),
    }
}

fn identity(own: &ClientIdentity) -> Result<Identity, BadSetting> {
    let made = match own {
        ClientIdentity::Pkcs8 { chain, key } => {
            // With PEM of another kind the library would say nothing of use.
            if certificates(chain)?.is_empty() {
                return Err(BadSetting::new(chain, "there is no certificate in it"));
            }
            Identity::from_pkcs8(&read(chain)?, &read(key)?)
        }
        ClientIdentity::Pkcs12 { archive, password } => {
            Identity::from_pkcs12(&read(archive)?, password.expose_secret())
        }
    };
    made.map_err(|error| BadSetting::new(named(own), error))
}

fn named(own: &ClientIdentity) -> String {
    match own {
        ClientIdentity::Pkcs8 { chain, key } => format!("client certificate {chain} with key {key}"),
        ClientIdentity::Pkcs12 { archive, .. } => format!("client certificate {archive}"),
    }
}

fn read(source: &Source) -> Result<Arc<Zeroizing<Vec<u8>>>, BadSetting> {
    let path = match source {
        Source::Bytes(bytes) => return Ok(Arc::clone(bytes)),
        Source::File(path) => path,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| {
        // At once as large as the file: nothing of a key is left behind by growing.
        bytes.reserve_exact(usize::try_from(file.metadata()?.len().min(MAX_FILE)).unwrap_or(0) + 1);
        file.take(MAX_FILE).read_to_end(&mut bytes)
    });
    read.map(|_| Arc::new(bytes)).map_err(|error| BadSetting::new(path.display(), error))
}

/// What the sessions of one host use to shake hands.
pub(crate) struct TlsClient {
    connector: TlsConnector,
    server_name: Box<str>,
    pins: Vec<Pin>,
}

/// A handshake, as far as it has come.
pub(crate) enum Shaking {
    /// Nothing was said yet.
    Fresh(Plain),
    Begun(MidHandshakeTlsStream<Nonblocking>),
}

/// How far one more step of a handshake came.
pub(crate) enum Shaken {
    Done(Box<TlsStream>),
    /// The waker is woken when it can go on.
    Pending(Shaking),
    Failed(TlsFault),
}

impl TlsClient {
    /// Goes on with a handshake as far as possible.
    pub(crate) fn shake(&self, shaking: Shaking, waker: &Waker) -> Shaken {
        let shaken = match shaking {
            Shaking::Fresh(plain) => {
                self.connector.connect(&self.server_name, Nonblocking::new(plain, waker.clone()))
            }
            Shaking::Begun(mut begun) => {
                begun.get_mut().budget = BUDGET;
                begun.handshake()
            }
        };
        match shaken {
            Ok(stream) => match self.check_pins(&stream) {
                Ok(()) => Shaken::Done(Box::new(TlsStream(stream))),
                Err(fault) => Shaken::Failed(fault),
            },
            Err(HandshakeError::WouldBlock(begun)) => Shaken::Pending(Shaking::Begun(begun)),
            Err(HandshakeError::Failure(error)) => {
                let text = error.to_string();
                Shaken::Failed(self.fault(problem(&text), text))
            }
        }
    }

    fn check_pins(&self, stream: &native_tls::TlsStream<Nonblocking>) -> Result<(), TlsFault> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let shown = stream.peer_certificate().and_then(|shown| shown.map(|shown| shown.to_der()).transpose());
        let pin = match shown {
            Ok(Some(shown)) => Pin(Sha256::digest(&shown).into()),
            Ok(None) => return Err(self.fault(TlsProblem::Pin, "the server showed none".to_owned())),
            Err(error) => return Err(self.fault(TlsProblem::Pin, error.to_string())),
        };
        if self.pins.contains(&pin) {
            return Ok(());
        }
        Err(self.fault(TlsProblem::Pin, format!("its SHA-256 is {pin}")))
    }

    fn fault(&self, problem: TlsProblem, text: String) -> TlsFault {
        TlsFault::new(problem, self.server_name.clone(), text)
    }
}

/// Tells from the library's text what was wrong with the certificate. The
/// phrases are those of OpenSSL, and then those of the other libraries that
/// native-tls stands for.
fn problem(text: &str) -> TlsProblem {
    const PHRASES: [(&str, TlsProblem); 14] = [
        ("certificate has expired", TlsProblem::Expired),
        ("certificate is not yet valid", TlsProblem::NotYetValid),
        ("hostname mismatch", TlsProblem::WrongName),
        ("ip address mismatch", TlsProblem::WrongName),
        ("unable to get local issuer certificate", TlsProblem::UnknownIssuer),
        ("unable to get issuer certificate", TlsProblem::UnknownIssuer),
        ("unable to verify the first certificate", TlsProblem::UnknownIssuer),
        ("self-signed certificate", TlsProblem::UnknownIssuer),
        ("self signed certificate", TlsProblem::UnknownIssuer),
        ("host name mismatch", TlsProblem::WrongName),
        ("certificate was not trusted", TlsProblem::UnknownIssuer),
        ("not trusted by the trust provider", TlsProblem::UnknownIssuer),
        ("cn name does not match", TlsProblem::WrongName),
        ("not within its validity period", TlsProblem::Expired),
    ];
    let text = text.to_ascii_lowercase();
    PHRASES
        .iter()
        .find(|(phrase, _)| text.contains(phrase))
        .map_or(TlsProblem::Other, |(_, problem)| *problem)
}

/// A connection as the TLS library wants it: calls that would block say so,
/// and have left the waker behind.
pub(crate) struct Nonblocking {
    plain: Plain,
    waker: Waker,
    /// Whether the waker is to be woken when a read has to wait.
    wakes: bool,
    /// A flush had to wait.
    owes_flush: bool,
    /// How often this call of the library may still read.
    budget: u32,
    /// What was read before it was asked for.
    ahead: Ahead,
}

/// Octets that were read and not given.
struct Ahead {
    octets: [u8; AHEAD],
    from: usize,
    to: usize,
}

impl Ahead {
    const EMPTY: Ahead = Ahead { octets: [0; AHEAD], from: 0, to: 0 };

    fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Gives as many as fit.
    fn give(&mut self, buffer: &mut [u8]) -> usize {
        let kept = self.octets.get(self.from..self.to).unwrap_or_default();
        let count = kept.len().min(buffer.len());
        if let (Some(buffer), Some(kept)) = (buffer.get_mut(..count), kept.get(..count)) {
            buffer.copy_from_slice(kept);
        }
        self.from += count;
        count
    }
}

impl Nonblocking {
    fn new(plain: Plain, waker: Waker) -> Nonblocking {
        Nonblocking { plain, waker, wakes: true, owes_flush: false, budget: BUDGET, ahead: Ahead::EMPTY }
    }

    /// Goes on with a flush that had to wait.
    fn flush_owed(&mut self) -> Poll<io::Result<()>> {
        if !self.owes_flush {
            return Poll::Ready(Ok(()));
        }
        let flushed = self.plain.poll_flush(&mut Context::from_waker(&self.waker));
        self.owes_flush = flushed.is_pending();
        flushed
    }
}

impl Read for Nonblocking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Poll::Ready(Err(error)) = self.flush_owed() {
            return Err(error);
        }
        let Some(budget) = self.budget.checked_sub(1) else {
            self.waker.wake_by_ref();
            return Err(io::ErrorKind::WouldBlock.into());
        };
        self.budget = budget;
        if buffer.len() < AHEAD || !self.ahead.is_empty() {
            if self.ahead.is_empty() {
                let Nonblocking { plain, waker, wakes, ahead, .. } = self;
                let to = read_some(plain, waker, *wakes, &mut ahead.octets)?;
                (ahead.from, ahead.to) = (0, to);
            }
            return Ok(self.ahead.give(buffer));
        }
        read_some(&mut self.plain, &self.waker, self.wakes, buffer)
    }
}

/// Reads once; the waker is left behind where that is wanted.
fn read_some(plain: &mut Plain, waker: &Waker, wakes: bool, buffer: &mut [u8]) -> io::Result<usize> {
    let mut cx = Context::from_waker(waker);
    or_would_block(if wakes {
        plain.poll_read(&mut cx, buffer)
    } else {
        plain.try_read(&mut cx, buffer).map_or(Poll::Pending, Poll::Ready)
    })
}

impl Write for Nonblocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(self.plain.poll_write(&mut Context::from_waker(&self.waker), bytes))
    }

    /// To OpenSSL a flush that has to wait is the end of a handshake, so it is
    /// owed until the next read, which follows.
    fn flush(&mut self) -> io::Result<()> {
        self.owes_flush = true;
        match self.flush_owed() {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }
}

fn or_would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// A connection that is protected by TLS.
pub(crate) struct TlsStream(native_tls::TlsStream<Nonblocking>);

impl TlsStream {
    pub(crate) fn plain(&self) -> &Plain {
        &self.0.get_ref().plain
    }

    pub(crate) fn poll_read(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.read(buffer, true)
    }

    /// Reads what is there without waking anybody later.
    pub(crate) fn try_read(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        match self.read(buffer, false) {
            Poll::Ready(read) => Some(read),
            Poll::Pending => None,
        }
    }

    /// Writes what fits. When none does, the same octets have to be given
    /// again: a part of them may be encrypted already.
    pub(crate) fn poll_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match polled(|| self.0.write(rest)) {
                Poll::Ready(Ok(count)) if count > 0 => written += count,
                _ if written > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(written))
    }

    pub(crate) fn poll_flush(&mut self) -> Poll<io::Result<()>> {
        match polled(|| self.0.flush()) {
            Poll::Ready(Ok(())) => self.0.get_mut().flush_owed(),
            other => other,
        }
    }

    /// Says that no more will come (close_notify), if that can be said at
    /// once. Only behind a write that was taken whole: a record that is half
    /// out would be completed by it.
    pub(crate) fn say_end(&mut self) {
        self.0.get_mut().wakes = false;
        let _ = self.0.shutdown();
    }

    fn read(&mut self, buffer: &mut [u8], wakes: bool) -> Poll<io::Result<usize>> {
        let stream = self.0.get_mut();
        stream.wakes = wakes;
        stream.budget = BUDGET;
        match polled(|| self.0.read(buffer)) {
            Poll::Ready(Err(error)) if is_end(&error) => Poll::Ready(Ok(0)),
            read => read,
        }
    }
}

/// Many servers close without saying so before (close_notify). What is cut
/// short by that is no whole reply, and so nothing is believed that was not
/// said. OpenSSL tells it as the end by itself.
fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

fn polled<T>(mut call: impl FnMut() -> io::Result<T>) -> Poll<io::Result<T>> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Poll::Ready(result),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use futures_lite::{AsyncRead, AsyncWrite};

    use super::*;

    /// A peer that never stops talking, behind a tunnel whose first flush waits.
    #[derive(Default)]
    struct Endless {
        flushes: usize,
        reads: u8,
    }

    impl AsyncRead for Endless {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.reads = self.reads.wrapping_add(1);
            buffer.fill(self.reads);
            Poll::Ready(Ok(buffer.len()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            if self.flushes == 1 { Poll::Pending } else { Poll::Ready(Ok(())) }
        }

        fn poll_close(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn endless() -> (Nonblocking, Arc<Woken>) {
        let woken = Arc::new(Woken::default());
        let plain = Plain::Custom(Box::new(Endless::default()));
        (Nonblocking::new(plain, Waker::from(Arc::clone(&woken))), woken)
    }

    #[test]
    fn one_call_of_the_library_reads_so_often_and_is_woken_for_more() {
        let (mut stream, woken) = endless();
        let mut reads = 0;
        let end = loop {
            match stream.read(&mut [0; 5]) {
                Ok(count) => {
                    assert!(count > 0);
                    reads += 1;
                }
                Err(error) => break error,
            }
        };
        assert_eq!((end.kind(), reads), (io::ErrorKind::WouldBlock, BUDGET));
        assert_eq!(woken.0.load(Ordering::Acquire), 1);
    }

    #[test]
    fn the_head_of_a_record_and_what_follows_are_read_at_once_and_in_order() {
        let (mut stream, _) = endless();
        let (mut head, mut rest, mut more) = ([0; 5], [0; 200], [0; 200]);
        assert_eq!(stream.read(&mut head).ok(), Some(5));
        assert_eq!(stream.read(&mut rest).ok(), Some(AHEAD - 5));
        assert!(head.iter().chain(&rest[..AHEAD - 5]).all(|octet| *octet == 1), "of the first reading");
        assert_eq!(stream.read(&mut more).ok(), Some(200));
        assert_eq!(more, [2; 200], "what is large is read where it is wanted");
    }

    #[test]
    fn a_flush_that_waits_is_no_error_and_goes_on_with_the_next_read() {
        let (mut stream, _) = endless();
        assert!(stream.flush().is_ok() && stream.owes_flush);
        assert!(stream.read(&mut [0; 10]).is_ok() && !stream.owes_flush);
    }

    #[test]
    fn clones_of_the_same_settings_share_a_context() {
        let mut contexts = Contexts::default();
        let (one, other) = (Tls::new().min_version(TlsVersion::Tls13), Tls::new());
        for (host, security, tls) in [
            ("a.example", Security::Implicit, one.clone()),
            ("b.example", Security::StartTls, one.clone()),
            ("c.example", Security::ImplicitUnverified, one.clone()),
            ("d.example", Security::StartTls, other.clone()),
            ("e.example", Security::StartTls, one.clone().server_name("f.example")),
        ] {
            assert!(contexts.client(host, security, &tls).is_ok(), "{host}");
        }
        assert_eq!(contexts.0.len(), 4, "one for the first two, and one for each of the others");
    }

    #[test]
    fn what_is_wrong_is_told_from_the_librarys_text() {
        let openssl = |said: &str| {
            let text = format!(
                "error:0A000086:SSL routines:tls_post_process_server_certificate:\
                 certificate verify failed:../ssl/statem/statem_clnt.c:1889: ({said})"
            );
            problem(&text)
        };
        assert_eq!(openssl("certificate has expired"), TlsProblem::Expired);
        assert_eq!(openssl("certificate is not yet valid"), TlsProblem::NotYetValid);
        assert_eq!(openssl("Hostname mismatch"), TlsProblem::WrongName);
        assert_eq!(openssl("IP address mismatch"), TlsProblem::WrongName);
        assert_eq!(openssl("self-signed certificate in certificate chain"), TlsProblem::UnknownIssuer);
        assert_eq!(openssl("unable to get local issuer certificate"), TlsProblem::UnknownIssuer);
        assert_eq!(problem("sslv3 alert certificate expired"), TlsProblem::Other);
        assert_eq!(problem("wrong version number"), TlsProblem::Other);
    }
}
