//! What each command looks like on the wire, and that none is longer than it may be.

use super::*;
use crate::extensions::{Extension, ExtensionSet, Extensions};
use crate::parameters::{
    Body, DeliverBy, EnvelopeId, Hold, MAX_ENVELOPE_ID, MAX_ORIGINAL_RECIPIENT, MailParameters, Notify,
    OriginalRecipient, Priority, RecipientParameters, Ret,
};
use crate::reply::Reply;

fn encoded(command: Command<'_>) -> String {
    let mut out = Vec::new();
    command.encode(&mut out);
    assert!(out.len() <= MAX_COMMAND);
    String::from_utf8(out).unwrap()
}

#[test]
fn commands_have_no_space_after_the_colon() {
    let from: ReversePath = "ann@example.org".parse().unwrap();
    let to: ForwardPath = "\"a b\"@[127.0.0.1]".parse().unwrap();
    assert_eq!(encoded(Command::mail(&from)), "MAIL FROM:<ann@example.org>\r\n");
    assert_eq!(encoded(Command::mail(&ReversePath::null())), "MAIL FROM:<>\r\n");
    assert_eq!(encoded(Command::rcpt(&to)), "RCPT TO:<\"a b\"@[127.0.0.1]>\r\n");
    assert_eq!(encoded(Command::Data), "DATA\r\n");
}

#[test]
fn an_initial_response_stands_behind_its_mechanism() {
    assert_eq!(encoded(Command::Auth(AuthLine::begin("LOGIN", None))), "AUTH LOGIN\r\n");
    assert_eq!(encoded(Command::Auth(AuthLine::begin("EXTERNAL", Some("=")))), "AUTH EXTERNAL =\r\n");
    let answer = Command::Auth(AuthLine::answer("c2VjcmV0"));
    assert_eq!(encoded(answer), "c2VjcmV0\r\n");
    assert_eq!(encoded(Command::Auth(AuthLine::answer(""))), "\r\n");
    assert!(!format!("{answer:?}").contains("c2Vj"));
    assert_eq!(encoded(Command::StartTls), "STARTTLS\r\n");
}

fn all() -> ExtensionSet {
    Extensions::from_reply(
        Reply::parse(
            b"250-mx\r\n250-SIZE\r\n250-8BITMIME\r\n250-BINARYMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n\
                  250-DELIVERBY\r\n250-MT-PRIORITY\r\n250-REQUIRETLS\r\n250 FUTURERELEASE\r\n",
        )
        .unwrap(),
    )
    .set()
}

fn written(command: Command<'_>, most: usize) -> String {
    let mut out = Vec::new();
    command.encode(&mut out);
    assert!(out.len() <= most, "{} octets", out.len());
    let text = String::from_utf8(out).unwrap();
    let line = text.strip_suffix("\r\n").unwrap();
    assert!(!line.contains(|letter: char| letter.is_control()), "{line:?}");
    line.to_owned()
}

fn longest_path() -> String {
    let label = "d".repeat(63);
    format!("{}@{label}.{label}.{}", "l".repeat(64), "d".repeat(61))
}

fn longest_mail() -> MailParameters {
    MailParameters::new()
        .with_ret(Ret::Headers)
        .with_envelope_id(EnvelopeId::new(&"x".repeat(MAX_ENVELOPE_ID)).unwrap())
        .with_deliver_by(DeliverBy::or_notify(-999_999_999).unwrap().with_trace())
        .with_priority(Priority::new(-9).unwrap())
        .with_require_tls()
        .with_hold(Hold::until("2030-01-31T12:00:00Z").unwrap())
        .with_raw("X", Some(&"x".repeat(MAX_RAW - 3)))
        .unwrap()
}

#[test]
fn mail_says_what_the_server_offers_and_nothing_else() {
    let from: ReversePath = "news@example.org".parse().unwrap();
    let parameters = MailParameters::new()
        .with_ret(Ret::Headers)
        .with_envelope_id(EnvelopeId::new("QQ314159").unwrap())
        .with_deliver_by(DeliverBy::or_return(120).unwrap())
        .with_priority(Priority::new(3).unwrap())
        .with_require_tls()
        .with_hold(Hold::seconds(60).unwrap())
        .with_raw("AUTH", Some("<>"))
        .unwrap();
    let line = MailLine::new(&from).size(Some(1_000)).utf8(true).parameters(Some(&parameters));
    let asked = [
        (Extension::Size, "SIZE=1000"),
        (Extension::EightBitMime, "BODY=8BITMIME"),
        (Extension::SmtpUtf8, "SMTPUTF8"),
        (Extension::Dsn, "RET=HDRS ENVID=QQ314159"),
        (Extension::DeliverBy, "BY=120;R"),
        (Extension::MtPriority, "MT-PRIORITY=3"),
        (Extension::RequireTls, "REQUIRETLS"),
        (Extension::FutureRelease, "HOLDFOR=60"),
    ];
    for mask in 0..1_usize << asked.len() {
        let chosen = || asked.iter().enumerate().filter(|(bit, _)| mask & 1 << bit != 0).map(|(_, it)| it);
        let offered: ExtensionSet = chosen().map(|(extension, _)| *extension).collect();
        let texts: String = chosen().map(|(_, text)| format!(" {text}")).collect();
        let command = Command::Mail(line.body(Some(Body::EightBitMime)).offered(offered));
        assert_eq!(written(command, MAX_MAIL), format!("MAIL FROM:<news@example.org>{texts} AUTH=<>"));
    }
    let binary = line.parameters(None).size(None).utf8(false).body(Some(Body::BinaryMime));
    let eight: ExtensionSet = Extension::EightBitMime.into();
    assert_eq!(written(Command::Mail(binary.offered(eight)), MAX_MAIL), "MAIL FROM:<news@example.org>");
    assert!(written(Command::Mail(binary.offered(all())), MAX_MAIL).ends_with(" BODY=BINARYMIME"));
    let plain = binary.body(None).offered(all());
    assert_eq!(written(Command::Mail(plain), MAX_COMMAND), "MAIL FROM:<news@example.org>");
}

/// From the dialogue of RFC 3461 §10.
#[test]
fn notifications_are_asked_for_as_in_the_rfc() {
    let from: ReversePath = "Alice@Example.ORG".parse().unwrap();
    let mail =
        MailParameters::new().with_ret(Ret::Headers).with_envelope_id(EnvelopeId::new("QQ314159").unwrap());
    let command = Command::Mail(MailLine::new(&from).parameters(Some(&mail)).offered(all()));
    assert_eq!(written(command, MAX_MAIL), "MAIL FROM:<Alice@Example.ORG> RET=HDRS ENVID=QQ314159");
    for (address, notify, expected) in [
        ("Bob@Example.COM", Notify::SUCCESS, " NOTIFY=SUCCESS ORCPT=rfc822;Bob@Example.COM"),
        ("Carol@Ivory.EDU", Notify::FAILURE, " NOTIFY=FAILURE ORCPT=rfc822;Carol@Ivory.EDU"),
        (
            "Dana@Ivory.EDU",
            Notify::SUCCESS | Notify::FAILURE,
            " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Dana@Ivory.EDU",
        ),
        ("Fred@Bombs.AF.MIL", Notify::NEVER, " NOTIFY=NEVER"),
    ] {
        let to: ForwardPath = address.parse().unwrap();
        let mut asked = RecipientParameters::new().with_notify(notify);
        if notify != Notify::NEVER {
            asked = asked.with_original_recipient(OriginalRecipient::of(&to).unwrap());
        }
        let line = RcptLine::new(&to).parameters(Some(&asked));
        let command = Command::Rcpt(line.offered(Extension::Dsn.into()));
        assert_eq!(written(command, MAX_RCPT), format!("RCPT TO:<{address}>{expected}"));
        assert_eq!(written(Command::Rcpt(line), MAX_COMMAND), format!("RCPT TO:<{address}>"));
    }
}

#[test]
fn an_international_domain_is_written_in_its_ascii_form() {
    let from: ReversePath = "news@bücher.example".parse().unwrap();
    assert_eq!(written(Command::mail(&from), MAX_COMMAND), "MAIL FROM:<news@xn--bcher-kva.example>");
    let to: ForwardPath = "grå@bücher.example".parse().unwrap();
    assert_eq!(written(Command::rcpt(&to), MAX_COMMAND), "RCPT TO:<grå@bücher.example>");
}

#[test]
fn no_command_is_longer_than_it_may_be() {
    let (from, to) = (longest_path().parse().unwrap(), longest_path().parse().unwrap());
    assert_eq!(longest_path().len() + 2, crate::envelope::MAX_PATH);
    let plain = [Command::mail(&from), Command::rcpt(&to)].map(|command| written(command, MAX_COMMAND).len());
    let parameters = longest_mail();
    let line = MailLine::new(&from).size(Some(u64::MAX)).body(Some(Body::BinaryMime)).utf8(true);
    let line = Command::Mail(line.parameters(Some(&parameters)).offered(all()));
    let mail = written(line, MAX_MAIL);
    assert!(mail.len() - plain[0] <= MAX_MAIL - MAX_COMMAND, "what the parameters add");
    for keyword in ["SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "BY", "REQUIRETLS", "HOLDUNTIL", "X"] {
        assert!(mail.contains(&format!(" {keyword}")), "{keyword} in {mail}");
    }
    let address = "x".repeat(MAX_ORIGINAL_RECIPIENT - "rfc822;".len());
    let parameters = RecipientParameters::new()
        .with_notify(Notify::SUCCESS | Notify::FAILURE | Notify::DELAY)
        .with_original_recipient(OriginalRecipient::new("rfc822", &address).unwrap())
        .with_raw("X", Some(&"x".repeat(MAX_RAW - 3)))
        .unwrap();
    let line = RcptLine::new(&to).parameters(Some(&parameters)).offered(all());
    let rcpt = written(Command::Rcpt(line), MAX_RCPT);
    assert_eq!(rcpt.len() - plain[1], MAX_RCPT - MAX_COMMAND, "what the parameters add");
    let name: Domain = [&*"d".repeat(63); 4].join(".").parse().unwrap();
    for command in [Command::Ehlo(&name), Command::Helo(&name), Command::Lhlo(&name)] {
        written(command, MAX_COMMAND);
    }
    let longest = Argument::new(&"x".repeat(MAX_ARGUMENT)).unwrap();
    for command in [
        Command::Vrfy(&longest),
        Command::Expn(&longest),
        Command::Etrn(&longest),
        Command::Help(Some(&longest)),
    ] {
        assert_eq!(written(command, MAX_COMMAND).len() + 2, MAX_COMMAND);
    }
    let foreign = Argument::utf8(&format!("ü{}", "x".repeat(MAX_ARGUMENT - 2))).unwrap();
    written(Command::Vrfy(&foreign), MAX_INQUIRY);
    written(Command::Expn(&foreign), MAX_INQUIRY);
    written(Command::Bdat { size: u64::MAX, last: true }, MAX_COMMAND);
}

#[test]
fn encoding_allocates_nothing() {
    let (from, to) = (longest_path().parse().unwrap(), longest_path().parse().unwrap());
    let parameters = longest_mail();
    let line = MailLine::new(&from).size(Some(u64::MAX)).body(Some(Body::BinaryMime)).utf8(true);
    let argument = Argument::new("ann").unwrap();
    let asked = RecipientParameters::new().with_notify(Notify::FAILURE | Notify::DELAY);
    let commands = [
        Command::Mail(line.parameters(Some(&parameters)).offered(all())),
        Command::Rcpt(RcptLine::new(&to).parameters(Some(&asked)).offered(all())),
        Command::Bdat { size: u64::MAX, last: false },
        Command::Vrfy(&argument),
    ];
    let mut out = Vec::with_capacity(16 * 1024);
    let counted =
        allocation_counter::measure(|| commands.iter().for_each(|command| command.encode(&mut out)));
    assert_eq!(counted.count_total, 0);
    assert!(out.len() > MAX_COMMAND);
}

#[test]
fn the_smaller_commands_look_as_their_rfcs_have_them() {
    let name: Domain = "client.example".parse().unwrap();
    let ann = Argument::new("ann").unwrap();
    let foreign = Argument::utf8("grå").unwrap();
    for (command, expected) in [
        (Command::Lhlo(&name), "LHLO client.example"),
        (Command::Bdat { size: 0, last: true }, "BDAT 0 LAST"),
        (Command::Bdat { size: 86_400, last: false }, "BDAT 86400"),
        (Command::Noop, "NOOP"),
        (Command::Help(None), "HELP"),
        (Command::Help(Some(&ann)), "HELP ann"),
        (Command::Vrfy(&ann), "VRFY ann"),
        (Command::Vrfy(&foreign), "VRFY grå SMTPUTF8"),
        (Command::Expn(&ann), "EXPN ann"),
        (Command::Expn(&foreign), "EXPN grå SMTPUTF8"),
        (Command::Etrn(&ann), "ETRN ann"),
        (Command::Rset, "RSET"),
        (Command::Quit, "QUIT"),
    ] {
        assert_eq!(written(command, MAX_COMMAND), expected);
    }
}

#[test]
fn an_argument_is_one_line_of_what_was_allowed() {
    use ArgumentError::*;
    for (text, error) in [
        ("", Empty),
        ("a\r\nQUIT", UnexpectedCharacter('\r')),
        ("a\n", UnexpectedCharacter('\n')),
        ("a\0", UnexpectedCharacter('\0')),
        ("a\t", UnexpectedCharacter('\t')),
        (" a", UnexpectedCharacter(' ')),
        ("a ", UnexpectedCharacter(' ')),
    ] {
        assert_eq!(Argument::new(text), Err(error));
        assert_eq!(Argument::utf8(text), Err(error));
    }
    assert_eq!(Argument::new("grå"), Err(UnexpectedCharacter('å')));
    for odd in ['\u{85}', '\u{2028}', '\u{2029}'] {
        assert_eq!(Argument::utf8(&format!("a{odd}b")), Err(UnexpectedCharacter(odd)));
    }
    assert_eq!(Argument::new(&"x".repeat(MAX_ARGUMENT + 1)), Err(TooLong));
    assert_eq!(Argument::utf8(&"å".repeat(MAX_ARGUMENT / 2 + 1)), Err(TooLong));
    assert_eq!(Argument::new("#queue @host").unwrap().to_string(), "#queue @host");
}
