//! Roots, client certificates and other settings of TLS: what works in each of its forms, and what
//! does not is said by `connect`, by the name of the file, and never by what is in a key.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::{fs, io};

use openssl::pkcs12::Pkcs12;
use openssl::pkey::PKey;
use openssl::ssl::SslVersion;
use openssl::x509::X509;
use smol::net::TcpStream;
use smtp_bulk::{Error, EventKind, Failure, Host, Security, Tls};
use tempfile::TempDir;

use crate::certs::{Authority, Issued};
use crate::peers::{Server, demanding};
use crate::support::{Log, builder, host, mail, run, send_and_quit, sink};
use crate::tls::{noting, trusting};

const PASSWORD: &str = "correct horse";

fn file(folder: &TempDir, name: &str, octets: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, octets).unwrap();
    path
}

fn archive(issued: &Issued) -> Vec<u8> {
    let mut builder = Pkcs12::builder();
    builder.name("client").cert(&X509::from_der(&issued.der).unwrap());
    builder.pkey(&PKey::private_key_from_der(&issued.key_der).unwrap());
    builder.build2(PASSWORD).unwrap().to_der().unwrap()
}

// ---- what is wrong ------------------------------------------------------------------------------

/// What `connect` says to settings that cannot be used: the setting, and the problem. Nobody is
/// connected to.
fn complaint(tls: Tls) -> (String, String) {
    let log = Log::default();
    let host = Host::new("mx.example.org:1").security(Security::StartTls).tls(tls);
    let error = run(builder(&log).host(host).connect()).expect_err("a wrong setting");
    let line = error.to_string();
    for secret in [PASSWORD, "PRIVATE", "MII", "MIG"] {
        assert!(!line.contains(secret) && !format!("{error:?}").contains(secret), "a secret is shown");
    }
    let Error::Tls { host, what, problem } = error else { panic!("{line}") };
    assert_eq!(line, format!("TLS of host \"mx.example.org\": {what}: {problem}"));
    assert_eq!(host, "mx.example.org");
    assert!(log.events().is_empty());
    (what, problem)
}

fn complains_of(path: &Path, tls: Tls, words: &str) {
    let (what, problem) = complaint(tls);
    assert!(what.contains(path.to_str().unwrap()), "{what}: {problem}");
    assert!(problem.contains(words), "{what}: {problem}");
}

#[test]
fn a_file_that_cannot_be_used_is_named_by_connect() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new();
    let (client, other) = (authority.for_client("tim"), authority.for_client("tom"));
    let missing = folder.path().join("missing.pem");
    let empty = file(&folder, "empty.pem", "");
    let garbage = file(&folder, "garbage.der", b"\x30\x82\x01\x01 and then nothing that fits");
    let chain = file(&folder, "chain.pem", &client.pem);
    let key = file(&folder, "key.pem", &client.key_pem);
    let another_key = file(&folder, "another-key.pem", &other.key_pem);
    let cut = file(&folder, "cut.pem", client.pem.split_at(client.pem.len() / 2).0);
    let packed = file(&folder, "client.p12", archive(&client));

    let root = |path: &Path| Tls::new().root_certificate_file(path);
    complains_of(&missing, root(&missing), "No such file");
    complains_of(folder.path(), root(folder.path()), "");
    complains_of(&empty, root(&empty), "this is no certificate in PEM or DER");
    complains_of(&garbage, root(&garbage), "this is no certificate in PEM or DER");
    complains_of(&cut, root(&cut), "");
    complains_of(&key, root(&key), "there is no certificate in it");

    let client_of = |chain: &Path, key: &Path| Tls::new().client_certificate_files(chain, key);
    complains_of(&missing, client_of(&missing, &key), "No such file");
    complains_of(&missing, client_of(&chain, &missing), "No such file");
    complains_of(&empty, client_of(&empty, &key), "this is no certificate");
    complains_of(&key, client_of(&key, &key), "there is no certificate in it");
    complains_of(&chain, client_of(&chain, &chain), "expected PKCS#8 PEM");
    complains_of(&empty, client_of(&chain, &empty), "expected PKCS#8 PEM");
    complains_of(&another_key, client_of(&chain, &another_key), "key values mismatch");

    let packed_by = |path: &Path, password: &str| Tls::new().client_pkcs12_file(path, password.to_owned());
    complains_of(&missing, packed_by(&missing, PASSWORD), "No such file");
    complains_of(&packed, packed_by(&packed, "correct house"), "mac verify failure");
    complains_of(&garbage, packed_by(&garbage, PASSWORD), "");
}

#[test]
fn octets_that_cannot_be_used_are_counted_and_not_shown() {
    let authority = Authority::new();
    let (client, other) = (authority.for_client("tim"), authority.for_client("tom"));
    let (what, problem) = complaint(Tls::new().root_certificate("no certificate"));
    assert_eq!(what, "the given 14 octets");
    assert!(problem.starts_with("this is no certificate in PEM or DER"), "{problem}");
    let (what, problem) = complaint(Tls::new().root_certificate(client.key_pem.clone()));
    assert_eq!(what, format!("the given {} octets", client.key_pem.len()));
    assert_eq!(problem, "there is no certificate in it");
    let (what, problem) = complaint(Tls::new().client_certificate(client.pem.clone(), other.key_pem));
    assert!(what.starts_with("client certificate the given "), "{what}");
    assert!(problem.contains("key values mismatch"), "{problem}");
    let (_, problem) = complaint(Tls::new().client_certificate(client.pem.clone(), client.key_der.clone()));
    assert!(problem.contains("expected PKCS#8 PEM"), "{problem}");
    let (_, problem) = complaint(Tls::new().client_pkcs12(archive(&client), "wrong"));
    assert!(problem.contains("mac verify failure"), "{problem}");
}

#[test]
fn settings_that_contradict_each_other_are_errors() {
    for (tls, what, problem) in [
        (Tls::new().only_these_roots(), "only_these_roots", "there is no root certificate"),
        (Tls::new().pin_only(), "pin_only", "there is no pin"),
        (Tls::new().pin("abc"), "pin \"abc\"", "this is no SHA-256 in hexadecimal"),
        (Tls::new().pin("00".repeat(32)).pin("é"), "pin \"é\"", "this is no SHA-256 in hexadecimal"),
        (Tls::new().server_name("mx example"), "\"mx example\"", "this is no name for a server"),
        (Tls::new().server_name("mx\0.example"), "\"mx\\0.example\"", "this is no name for a server"),
        (Tls::new().server_name("mx\r\n"), "\"mx\\r\\n\"", "this is no name for a server"),
        (Tls::new().server_name(""), "\"\"", "this is no name for a server"),
        (Tls::new().server_name("."), "\"\"", "this is no name for a server"),
    ] {
        assert_eq!(complaint(tls), (what.to_owned(), problem.to_owned()));
    }
}

#[test]
fn settings_of_tls_that_would_protect_nothing_are_an_error() {
    let sink = sink(|sink| sink);
    let tls = || Tls::new().only_these_roots();
    let log = Log::default();
    for (builder, named) in [
        (builder(&log).host(host(&sink).tls(tls())), "127.0.0.1"),
        (builder(&log).host(host(&sink)).tls(tls()), ""),
    ] {
        let error = run(builder.connect()).expect_err("everything would be sent in the clear");
        let Error::Host { name, problem } = error else { panic!("{error}") };
        assert_eq!(name, named);
        assert!(problem.contains("settings for TLS, and no security"), "{problem}");
    }
    assert_eq!(sink.counts().connections, 0);
}

#[test]
fn settings_of_tls_for_all_hosts_are_not_for_those_without_tls() {
    let authority = Authority::new();
    let identity = authority.good().identity();
    let protected = self::sink(|sink| sink.implicit_tls(identity));
    let clear = self::sink(|sink| sink);
    let builder = builder(&Log::default())
        .host(host(&protected).security(Security::Implicit))
        .host(host(&clear))
        .tls(Tls::new().root_certificate(authority.pem()))
        .threads(1);
    assert_eq!(send_and_quit(builder, (0..4).map(mail)).mails.delivered, 4);
    assert_eq!((protected.counts().mails, clear.counts().mails), (2, 2));
}

#[test]
fn tls_from_the_first_octet_has_a_port_of_its_own() {
    for (security, port) in [
        (Security::None, 25),
        (Security::StartTls, 25),
        (Security::StartTlsUnverified, 25),
        (Security::OpportunisticStartTls, 25),
        (Security::Implicit, 465),
        (Security::ImplicitUnverified, 465),
    ] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let host = Host::new("localhost").security(security).threads(1).max_connect_failures(1);
        let route = host.connector(move |target| {
            noted.lock().unwrap().push(target.port);
            async { Err::<TcpStream, _>(io::Error::from(io::ErrorKind::ConnectionRefused)) }
        });
        run(builder(&Log::default()).host(route).connect()).expect_err("nobody is there");
        assert_eq!(*asked.lock().unwrap(), [port], "{security:?}");
    }
}

// ---- roots --------------------------------------------------------------------------------------

#[test]
fn roots_are_taken_in_each_form() {
    let folder = TempDir::new().unwrap();
    let [authority, second, stranger] = [(); 3].map(|()| Authority::new());
    let both = format!("# two of them\n{}\nand\n{}", second.pem(), authority.pem());
    let pem = file(&folder, "root.pem", authority.pem());
    let der = file(&folder, "root.der", authority.der());
    let bundle = file(&folder, "bundle.pem", &both);
    let sinks = [&authority, &second].map(|authority| {
        let identity = authority.good().identity();
        sink(|sink| sink.implicit_tls(identity))
    });
    let new = || Tls::new().only_these_roots();
    for (tls, trusted) in [
        (new().root_certificate(authority.pem()), [true, false]),
        (new().root_certificate(authority.der()), [true, false]),
        (new().root_certificate_file(&pem), [true, false]),
        (new().root_certificate_file(&der), [true, false]),
        (new().root_certificate(both), [true, true]),
        (new().root_certificate_file(&bundle), [true, true]),
        (new().root_certificate_file(&pem).root_certificate(second.der()), [true, true]),
        (new().root_certificate(stranger.pem()), [false, false]),
        // With the system's, which do not know these either.
        (Tls::new().root_certificate(second.pem()), [false, true]),
        (Tls::new(), [false, false]),
    ] {
        for (sink, trusted) in sinks.iter().zip(trusted) {
            let host = host(sink).security(Security::Implicit).tls(tls.clone());
            let builder = builder(&Log::default()).host(host).max_connect_failures(1);
            let connected = run(async { Ok::<_, Error>(builder.connect().await?.quit().await.unwrap()) });
            assert_eq!(connected.is_ok(), trusted, "{tls:?}: {connected:?}");
        }
    }
}

#[test]
fn hosts_have_their_own_settings() {
    let authorities = [Authority::new(), Authority::new()];
    let sinks = authorities.each_ref().map(|authority| {
        let identity = authority.good().identity();
        sink(|sink| sink.implicit_tls(identity))
    });
    let (log, failures) = noting();
    let host = |sink: usize, authority: usize| {
        let host = host(&sinks[sink]).threads(1).max_connect_failures(1);
        host.security(Security::Implicit).tls(trusting(&authorities[authority]))
    };
    // The third has the certificate of one and trusts the other; the fourth has the mailer's.
    let builder = builder(&log).tls(trusting(&authorities[0])).security(Security::Implicit);
    let builder = builder.host(host(0, 0)).host(host(1, 1)).host(host(1, 0));
    let summary = send_and_quit(builder.host(crate::support::host(&sinks[0])), (0..12).map(mail));
    assert_eq!(summary.mails.delivered, 12);
    let fails = log.of_kind(EventKind::ConnectFail);
    assert!(fails.len() == 1 && fails[0].lane.host == 2, "{fails:?}");
    assert!(matches!(failures.lock().unwrap()[0].1, Failure::Tls(_)));
}

// ---- what the client shows ----------------------------------------------------------------------

#[test]
fn a_client_certificate_is_shown_in_each_form() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new();
    let client = authority.for_client("tim");
    let chain = file(&folder, "chain.pem", &client.pem);
    let key = file(&folder, "key.pem", &client.key_pem);
    let packed = file(&folder, "client.p12", archive(&client));
    let new = || trusting(&authority);
    for tls in [
        new().client_certificate(client.pem.clone(), client.key_pem.clone()),
        new().client_certificate_files(&chain, &key),
        new().client_pkcs12(archive(&client), PASSWORD),
        new().client_pkcs12_file(&packed, PASSWORD),
    ] {
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let (accepting, der) = (demanding(&authority, version), client.der.clone());
            let server = Server::start(move |peer| {
                let mut peer = peer.secure(&accepting).expect("a certificate");
                assert!(peer.ssl().peer_certificate().unwrap().to_der().unwrap() == der, "another's");
                peer.say("220 peer.example\r\n");
                peer.behave();
            });
            let host = server.host().security(Security::Implicit).tls(tls.clone());
            let log = Log::default();
            assert_eq!(send_and_quit(builder(&log).host(host), [mail(0)]).mails.delivered, 1);
            assert_eq!(log.trouble().len(), 0, "{:?}", log.trouble());
        }
    }
}

#[test]
fn a_server_that_wants_a_certificate_and_gets_none_says_so_in_the_event() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let unknown = stranger.for_client("tim");
    // In TLS 1.3 the client's handshake is over before the server has seen a certificate: the alert
    // is what is read first.
    for (version, tls, alert) in [
        (SslVersion::TLS1_2, trusting(&authority), "handshake failure"),
        (SslVersion::TLS1_3, trusting(&authority), "certificate required"),
        (
            SslVersion::TLS1_3,
            trusting(&authority).client_certificate(unknown.pem, unknown.key_pem),
            "unknown ca",
        ),
    ] {
        for security in [Security::Implicit, Security::StartTls] {
            let accepting = demanding(&authority, version);
            let server = Server::start(move |mut peer| {
                if security == Security::StartTls {
                    assert!(peer.until_starttls("250-peer.example\r\n250 STARTTLS\r\n"));
                    peer.say("220 go\r\n");
                }
                assert!(peer.secure(&accepting).is_err());
            });
            let (log, failures) = noting();
            let host = server.host().security(security).tls(tls.clone());
            let error = run(builder(&log).host(host).max_connect_failures(1).connect()).expect_err("refused");
            let failures = failures.lock().unwrap();
            assert_eq!(failures.len(), 1, "{failures:?}");
            let line = failures[0].1.to_string();
            assert!(line.contains(alert), "{version:?} {security:?}: {line}");
            assert!(error.to_string().contains(alert), "{error}");
            assert_eq!(log.of_kind(EventKind::ConnectFail).len(), 1);
        }
    }
}
