//! What EHLO announces, and the parameters and commands that come with it.

use smtp_bulk::sink::{Builder, Extension, Fault, Misdeed, Sink, Step};

use super::certs::Authority;
use super::raw::{Client, trusting};
use super::{offering, start};

/// The lines of the reply to EHLO behind the first, without their codes.
fn announced(builder: Builder) -> Vec<String> {
    let sink = builder.start().unwrap();
    let reply = Client::connect(&sink).hello();
    reply.lines().skip(1).map(|line| line[4..].to_owned()).collect()
}

#[test]
fn each_extension_can_be_announced_and_concealed() {
    assert_eq!(announced(Sink::builder()), ["ENHANCEDSTATUSCODES", "HELP"]);
    let nothing = || {
        let builder = Sink::builder().conceal(Extension::EnhancedStatusCodes);
        builder.conceal(Extension::Help)
    };
    assert_eq!(announced(nothing()), [""; 0]);
    for extension in Extension::ALL {
        let lines = announced(nothing().announce(extension));
        if extension == Extension::RequireTls {
            assert_eq!(lines, [""; 0], "only under TLS");
            continue;
        }
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(line.split(' ').next(), Some(extension.keyword()));
        assert_eq!(announced(nothing().announce(extension).conceal(extension)), [""; 0]);
    }
}

#[test]
fn announcements_tell_the_settings() {
    let limited = Sink::builder().max_message_size(1000).max_recipients(7).max_mails(3);
    let all = Extension::ALL.into_iter().fold(limited.max_recipient_domains(2), Builder::announce);
    let lines = announced(all.ehlo_line("X-ODD a b").ehlo_line(""));
    for line in [
        "SIZE 1000",
        "LIMITS RCPTMAX=7 MAILMAX=3 RCPTDOMAINMAX=2",
        "FUTURERELEASE 2592000 2099-12-31T23:59:59Z",
        "8BITMIME",
        "X-ODD a b",
        "",
    ] {
        assert!(lines.iter().any(|known| known == line), "{line}: {lines:?}");
    }
    let unlimited = Sink::builder().max_message_size(None).announce(Extension::Size);
    assert!(
        announced(unlimited.announce(Extension::Limits))
            .ends_with(&["SIZE 0".to_owned(), "LIMITS RCPTMAX=1000".to_owned()])
    );
}

#[test]
fn nothing_is_offered_behind_helo_or_by_a_bare_line() {
    let sink = Extension::ALL.into_iter().fold(Sink::builder(), Builder::announce).start().unwrap();
    let mut client = Client::connect(&sink);
    client.reply();
    client.expect("HELO client.example", "250");
    client.expect("MAIL FROM:<a@b.example> SIZE=1", "555");
    client.expect("BDAT 0 LAST", "502");
    client.expect("EXPN list", "502");
    client.mail();

    let (_sink, mut client) = start(Sink::builder().ehlo_line("CHUNKING").ehlo_line("DSN"));
    client.expect("MAIL FROM:<a@b.example> RET=FULL", "555");
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<a@b.example> NOTIFY=NEVER", "555");
    client.expect("RCPT TO:<a@b.example>", "250");
    client.send("BDAT 6 LAST\r\nNOOP\r\n");
    assert!(client.reply().starts_with("502"));
    assert!(client.reply().starts_with("250"), "its octets are commands to one who does not know it");
}

#[test]
fn settings_without_sense_are_errors() {
    for builder in [
        Sink::builder().ehlo_line("A\r\n250 B"),
        Sink::builder().max_mails(0),
        Sink::builder().max_recipient_domains(0),
        Sink::builder().fault(Fault::new(Step::Bdat, Misdeed::RefuseUnread(99, String::new()))),
        Sink::builder().fault(Fault::new(Step::Bdat, Misdeed::RefuseClose(600, String::new()))),
    ] {
        assert_eq!(builder.start().unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
}

#[test]
fn parameters_are_checked_and_kept_as_they_were_sent() {
    let (sink, mut client) = offering(&Extension::ALL);
    for (parameter, code) in [
        ("SIZE=x", "501"),
        ("SIZE=1 SIZE=2", "501"),
        ("BODY=BASE64", "501"),
        ("RET=HALF", "501"),
        ("ENVID=a+b", "501"),
        ("BY=0;R", "501"),
        ("MT-PRIORITY=12", "501"),
        ("HOLDFOR=1 HOLDUNTIL=2030-01-01T00:00:00Z", "501"),
        ("SMTPUTF8=1", "501"),
        ("REQUIRETLS", "555"),
        ("AUTH=<>", "555"),
        ("X-ODD=1", "555"),
        ("SIZE=67108865", "552 5.3.4"),
    ] {
        client.expect(&format!("MAIL FROM:<a@b.example> {parameter}"), code);
    }
    let parameters = "size=67108864 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+3Db BY=120;NT MT-PRIORITY=-3 \
                      HOLDFOR=60";
    client.expect(&format!("MAIL FROM:<a@b.example> {parameters}"), "250");
    client.expect("RCPT TO:<a@b.example> NOTIFY=NEVER,DELAY", "501");
    client.expect("RCPT TO:<a@b.example> ORCPT=a@b.example", "501");
    client.expect("RCPT TO:<a@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@c.example", "250");
    client.expect("RCPT TO:<c@b.example>", "250");
    client.expect("DATA", "354");
    client.expect(".", "250");
    let mails = sink.mails();
    assert_eq!(mails[0].parameters, parameters);
    assert_eq!(mails[0].recipient_parameters, ["NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@c.example", ""]);
    client.mail();
    assert_eq!(sink.mails()[1].parameters, "");
}

#[test]
fn addresses_in_utf8_need_the_parameter() {
    let (sink, mut client) = offering(&[Extension::SmtpUtf8, Extension::Dsn]);
    client.expect("MAIL FROM:<ä@ö.example>", "553 5.6.7");
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<ä@ö.example>", "553 5.6.7");
    client.expect("RSET", "250");
    client.expect("MAIL FROM:<ä@ö.example> SMTPUTF8", "250");
    client.expect("RCPT TO:<\"ü ü\"@ö.example> ORCPT=utf-8;ä@c.example", "250");
    client.send(b"RCPT TO:<\xff@b.example>\r\n");
    assert!(client.reply().starts_with("553"));
    client.expect("DATA", "354");
    client.expect(".", "250");
    assert_eq!(sink.mails()[0].reverse_path, "ä@ö.example");
    assert_eq!(sink.mails()[0].forward_paths, ["\"ü ü\"@ö.example"]);
    client.expect("EHLO ä.example", "501");

    let (_sink, mut client) = offering(&[]);
    client.expect("MAIL FROM:<ä@ö.example> SMTPUTF8", "553");
    client.expect("MAIL FROM:<a@b.example> SMTPUTF8", "555");
}

#[test]
fn requiretls_is_there_under_tls_only() {
    let authority = Authority::new();
    let builder = Sink::builder().announce(Extension::RequireTls).starttls(authority.good().identity());
    let (sink, mut client) = start(builder);
    client.expect("MAIL FROM:<a@b.example> REQUIRETLS", "555");
    client.expect("STARTTLS", "220");
    let mut client = client.secure(&trusting(&authority.pem()).build().unwrap()).unwrap();
    assert!(client.ask("EHLO client.example").contains("REQUIRETLS"));
    client.expect("MAIL FROM:<a@b.example> REQUIRETLS", "250");
    drop(sink);
}

#[test]
fn limits_are_enforced() {
    let limited = Sink::builder().max_recipients(2).max_recipient_domains(1).max_mails(2);
    let (sink, mut client) = start(limited.announce(Extension::Limits));
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<1@b.example>", "250");
    client.expect("RCPT TO:<1@other.example>", "452 4.5.3");
    client.expect("RCPT TO:<2@B.example>", "250");
    client.expect("RCPT TO:<3@b.example>", "452 4.5.3");
    client.expect("DATA", "354");
    client.expect(".", "250");
    client.mail();
    client.expect("NOOP", "250");
    client.expect("MAIL FROM:<a@b.example>", "421 4.7.0");
    assert_eq!(client.rest(), b"");
    assert_eq!(sink.counts().mails, 2);
    Client::ready(&sink).mail();
}

#[test]
fn expn_and_etrn_are_answered_where_they_are_offered() {
    let later = Fault::new(Step::Etrn, Misdeed::refuse(458, "4.3.0 Unable to queue")).times(1);
    let builder = Sink::builder().announce(Extension::Expn).announce(Extension::Etrn).fault(later);
    let (_sink, mut client) = start(builder);
    client.expect("EXPN list", "252");
    client.expect("EXPN", "501");
    client.expect("ETRN b.example", "458");
    client.expect("ETRN b.example", "250");
    client.expect("ETRN @b.example", "250");
    client.expect("ETRN", "501");
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("ETRN b.example", "503");
    let (_sink, mut client) = offering(&[]);
    client.expect("ETRN b.example", "502");
}
