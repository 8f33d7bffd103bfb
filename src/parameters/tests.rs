//! What may be asked for, what it looks like on the wire, and what is refused.

use super::*;
use crate::envelope::{Envelope, ForwardPath};
use crate::reply::Reply;

fn offers(line: &str) -> Extensions {
    let raw = format!("250-mx.example\r\n250 {line}\r\n");
    Extensions::from_reply(Reply::parse(raw.as_bytes()).unwrap())
}

#[test]
fn an_envelope_identifier_is_printable_ascii_in_xtext() {
    for (text, encoded) in
        [("QQ314159", "QQ314159"), ("a b", "a+20b"), ("1+1=2", "1+2B1+3D2"), ("~!\\;,<>\"", "~!\\;,<>\"")]
    {
        assert_eq!(EnvelopeId::new(text).unwrap().as_str(), encoded);
    }
    assert_eq!(EnvelopeId::new(""), Err(ParameterError::Empty));
    for (text, odd) in [("a\r\nb", '\r'), ("a\0", '\0'), ("a\tb", '\t'), ("\u{7f}", '\u{7f}'), ("å", 'å')] {
        assert_eq!(EnvelopeId::new(text), Err(ParameterError::UnexpectedCharacter(odd)));
    }
    let too_long = Err(ParameterError::TooLong { limit: MAX_ENVELOPE_ID });
    assert_eq!(EnvelopeId::new(&"x".repeat(100)).unwrap().as_str().len(), MAX_ENVELOPE_ID);
    assert_eq!(EnvelopeId::new(&"x".repeat(101)), too_long);
    assert!(EnvelopeId::new(&" ".repeat(33)).is_ok());
    assert_eq!(EnvelopeId::new(&" ".repeat(34)), too_long);
}

#[test]
fn every_set_of_notifications_is_a_value_of_notify() {
    let all = [Notify::SUCCESS, Notify::FAILURE, Notify::DELAY];
    let texts = (0..8_usize).map(|mask| {
        let chosen = all.iter().enumerate().filter(|(bit, _)| mask & 1 << bit != 0);
        chosen.fold(Notify::NEVER, |set, (_, notify)| set | *notify).to_string()
    });
    let expected = [
        "NEVER",
        "SUCCESS",
        "FAILURE",
        "SUCCESS,FAILURE",
        "DELAY",
        "SUCCESS,DELAY",
        "FAILURE,DELAY",
        "SUCCESS,FAILURE,DELAY",
    ];
    assert_eq!(texts.collect::<Vec<_>>(), expected);
    assert_eq!(format!("{:?}", Notify::DELAY), "Notify(DELAY)");
}

/// The first is from RFC 3461 §10.
#[test]
fn an_original_recipient_has_a_type_and_an_encoded_address() {
    for (kind, address, encoded) in [
        ("rfc822", "Bob@Example.COM", "rfc822;Bob@Example.COM"),
        ("rfc822", "\"a b\"+=@c", "rfc822;\"a+20b\"+2B+3D@c"),
        ("X400", "/G=Ann/", "X400;/G+3DAnn/"),
        ("utf-8", "\u{26c7}@example.com", "utf-8;\\x{26C7}@example.com"),
        ("UTF-8", "a+b=\\ c\u{10400}@d", "UTF-8;a\\x{2B}b\\x{3D}\\x{5C}\\x{20}c\\x{10400}@d"),
    ] {
        assert_eq!(OriginalRecipient::new(kind, address).unwrap().as_str(), encoded);
    }
    for (kind, address, error) in [
        ("", "a@b", ParameterError::Empty),
        ("rfc822", "", ParameterError::Empty),
        ("rfc 822", "a@b", ParameterError::UnexpectedCharacter(' ')),
        ("a=b", "a@b", ParameterError::UnexpectedCharacter('=')),
        ("rfc822", "a\n@b", ParameterError::UnexpectedCharacter('\n')),
        ("rfc822", "å@b", ParameterError::UnexpectedCharacter('å')),
        ("utf-8", "å\r@b", ParameterError::UnexpectedCharacter('\r')),
        ("utf-8", "\u{85}@b", ParameterError::UnexpectedCharacter('\u{85}')),
    ] {
        assert_eq!(OriginalRecipient::new(kind, address), Err(error));
    }
    let address = "x".repeat(MAX_ORIGINAL_RECIPIENT - "rfc822;".len());
    assert_eq!(OriginalRecipient::new("rfc822", &address).unwrap().as_str().len(), MAX_ORIGINAL_RECIPIENT);
    let too_long = Err(ParameterError::TooLong { limit: MAX_ORIGINAL_RECIPIENT });
    assert_eq!(OriginalRecipient::new("rfc822", &format!("{address}x")), too_long);
    assert_eq!(OriginalRecipient::new(&"x".repeat(600), "a@b"), too_long);
}

#[test]
fn a_recipients_own_address_can_be_the_original_one() {
    let of = |address: &str| OriginalRecipient::of(&address.parse::<ForwardPath>().unwrap());
    assert_eq!(of("ann+list@example.net").unwrap().as_str(), "rfc822;ann+2Blist@example.net");
    assert_eq!(of("ann@bücher.example").unwrap().as_str(), "rfc822;ann@xn--bcher-kva.example");
    assert_eq!(of("grå@bücher.example").unwrap().as_str(), "utf-8;gr\\x{E5}@b\\x{FC}cher.example");
    let long = format!("å@{}.example", "ü".repeat(110));
    assert_eq!(of(&long), Err(ParameterError::TooLong { limit: MAX_ORIGINAL_RECIPIENT }));
}

#[test]
fn a_time_to_deliver_in_is_within_nine_digits() {
    let shown = |by: Result<DeliverBy, ParameterError>| by.map(|by| by.to_string());
    assert_eq!(shown(DeliverBy::or_return(1)).unwrap(), "1;R");
    assert_eq!(shown(DeliverBy::or_return(999_999_999)).unwrap(), "999999999;R");
    assert_eq!(shown(DeliverBy::or_notify(0)).unwrap(), "0;N");
    assert_eq!(
        shown(DeliverBy::or_notify(-999_999_999).map(DeliverBy::with_trace)).unwrap(),
        "-999999999;NT"
    );
    let returning = Err(ParameterError::OutOfRange { least: 1, most: 999_999_999 });
    assert_eq!(DeliverBy::or_return(0), returning);
    assert_eq!(DeliverBy::or_return(1_000_000_000), returning);
    assert_eq!(DeliverBy::or_return(u32::MAX), returning);
    assert!(DeliverBy::or_notify(i32::MIN).is_err());
}

#[test]
fn a_priority_has_one_digit() {
    let all: Vec<String> = (-9..=9).map(|number| Priority::new(number).unwrap().to_string()).collect();
    assert_eq!((all[0].as_str(), all[9].as_str(), all[18].as_str()), ("-9", "0", "9"));
    for number in [-128, -10, 10, 127] {
        assert_eq!(Priority::new(number), Err(ParameterError::OutOfRange { least: -9, most: 9 }));
    }
}

/// Some are the examples of RFC 3339 §5.8.
#[test]
fn a_mail_is_held_for_seconds_or_until_a_time_that_exists() {
    assert_eq!(Hold::seconds(0), Err(ParameterError::OutOfRange { least: 1, most: 999_999_999 }));
    assert!(Hold::seconds(1_000_000_000).is_err());
    for fit in
        ["2030-01-31T00:00:00Z", "2028-02-29T23:59:59Z", "1990-12-31T23:59:60Z", "2000-02-29T00:00:00Z"]
    {
        assert_eq!(Hold::until(fit).unwrap().to_string(), format!("HOLDUNTIL={fit}"));
    }
    for unfit in [
        "",
        "2030-01-31",
        "2030-01-31T00:00:00",
        "2030-01-31t00:00:00z",
        "2030-01-31 00:00:00Z",
        "2030-01-31T00:00:00+00:00",
        "1985-04-12T23:20:50.52Z",
        "2030-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2030-04-31T00:00:00Z",
        "2030-00-01T00:00:00Z",
        "2030-13-01T00:00:00Z",
        "2030-01-00T00:00:00Z",
        "2030-01-31T24:00:00Z",
        "2030-01-31T00:60:00Z",
        "2030-01-31T00:00:61Z",
        "+030-01-31T00:00:00Z",
        "2030-01-31T00:00:00Z\r\n",
        "2030-01-31T00:00:0å",
    ] {
        assert_eq!(Hold::until(unfit), Err(ParameterError::BadDateTime), "{unfit:?}");
    }
    assert!(is_utc_date_time("1985-04-12T23:20:50.52Z"));
    for unfit in ["1985-04-12T23:20:50.Z", "1985-04-12T23:20:50.5", "1985-04-12T23:20:50.5 Z"] {
        assert!(!is_utc_date_time(unfit), "{unfit}");
    }
    assert!(!is_utc_date_time(&format!("1985-04-12T23:20:50.{}Z", "5".repeat(100))));
}

#[test]
fn what_was_asked_for_can_be_read_back() {
    let nothing = MailParameters::new();
    assert_eq!((nothing.ret(), nothing.envelope_id(), nothing.deliver_by()), (None, None, None));
    assert_eq!((nothing.priority(), nothing.requires_tls(), nothing.hold()), (None, false, None));
    assert_eq!(nothing.raw().count(), 0);
    let (id, by) = (EnvelopeId::new("x").unwrap(), DeliverBy::or_notify(-5).unwrap());
    let (priority, hold) = (Priority::new(-9).unwrap(), Hold::until("2030-01-31T12:00:00Z").unwrap());
    let mail = nothing.with_ret(Ret::Full).with_envelope_id(id.clone()).with_deliver_by(by.with_trace());
    let mail = mail.with_priority(priority).with_require_tls().with_hold(hold.clone());
    assert_eq!((mail.ret(), mail.envelope_id()), (Some(Ret::Full), Some(&id)));
    assert_eq!((mail.priority().map(Priority::number), mail.requires_tls()), (Some(-9), true));
    assert_eq!(mail.hold(), Some(&hold));
    assert_eq!((hold.as_seconds(), hold.as_date_time()), (None, Some("2030-01-31T12:00:00Z")));
    assert_eq!(Hold::seconds(60).unwrap().as_seconds(), Some(60));
    let by = mail.deliver_by().unwrap();
    assert_eq!((by.seconds(), by.is_returned(), by.is_traced()), (-5, false, true));

    let original = OriginalRecipient::new("rfc822", "a@b").unwrap();
    let nothing = RecipientParameters::new();
    assert_eq!((nothing.notify(), nothing.original_recipient()), (None, None));
    let rcpt = nothing.with_notify(Notify::NEVER).with_original_recipient(original.clone());
    assert_eq!((rcpt.notify(), rcpt.original_recipient()), (Some(Notify::NEVER), Some(&original)));
    let rcpt = rcpt.with_raw("X", None).and_then(|rcpt| rcpt.with_raw("Y", Some("1"))).unwrap();
    assert_eq!(rcpt.raw().collect::<Vec<_>>(), [("X", None), ("Y", Some("1"))]);
}

#[test]
fn a_set_of_notifications_has_what_was_put_into_it() {
    let two = Notify::SUCCESS | Notify::DELAY;
    assert!(two.contains(Notify::SUCCESS) && two.contains(Notify::DELAY) && two.contains(two));
    assert!(!two.contains(Notify::FAILURE) && !two.contains(Notify::SUCCESS | Notify::FAILURE));
    assert!(Notify::NEVER.contains(Notify::NEVER) && !two.contains(Notify::NEVER));
    assert!(!Notify::NEVER.contains(Notify::DELAY));
}

#[test]
fn a_raw_parameter_has_the_form_of_the_rfc() {
    let raw = |keyword: &str, value: Option<&str>| MailParameters::new().with_raw(keyword, value);
    assert_eq!(raw("AUTH", Some("<>")).unwrap().raw().collect::<Vec<_>>(), [("AUTH", Some("<>"))]);
    assert_eq!(raw("x-1", None).unwrap().raw().collect::<Vec<_>>(), [("x-1", None)]);
    for (keyword, value, error) in [
        ("", None, ParameterError::Empty),
        ("X", Some(""), ParameterError::Empty),
        ("-X", None, ParameterError::UnexpectedCharacter('-')),
        ("X_Y", None, ParameterError::UnexpectedCharacter('_')),
        ("X Y", None, ParameterError::UnexpectedCharacter(' ')),
        ("X=Y", None, ParameterError::UnexpectedCharacter('=')),
        ("X>\r\nRSET", None, ParameterError::UnexpectedCharacter('>')),
        ("X", Some("a=b"), ParameterError::UnexpectedCharacter('=')),
        ("X", Some("a b"), ParameterError::UnexpectedCharacter(' ')),
        ("X", Some("a\r\nRSET"), ParameterError::UnexpectedCharacter('\r')),
        ("X", Some("å"), ParameterError::UnexpectedCharacter('å')),
        ("X", Some("\u{7f}"), ParameterError::UnexpectedCharacter('\u{7f}')),
        ("size", Some("1"), ParameterError::Reserved),
        ("Body", Some("8BITMIME"), ParameterError::Reserved),
        ("SMTPUTF8", None, ParameterError::Reserved),
        ("NOTIFY", Some("NEVER"), ParameterError::Reserved),
        ("HoldUntil", None, ParameterError::Reserved),
    ] {
        assert_eq!(raw(keyword, value), Err(error), "{keyword} {value:?}");
        assert_eq!(RecipientParameters::new().with_raw(keyword, value), Err(error));
    }
}

#[test]
fn raw_parameters_are_bounded_together_and_given_once() {
    let one = MailParameters::new().with_raw("X-A", Some("1")).unwrap();
    assert_eq!(one.clone().with_raw("x-a", None), Err(ParameterError::Repeated));
    let two = one.with_raw("X-B", None).unwrap();
    assert_eq!(two.raw().collect::<Vec<_>>(), [("X-A", Some("1")), ("X-B", None)]);
    assert_eq!(two.clone().with_raw("X-B", Some("2")), Err(ParameterError::Repeated));
    let room = MAX_RAW - " X-A=1 X-B".len() - " Y=".len();
    let full = two.clone().with_raw("Y", Some(&"y".repeat(room))).unwrap();
    assert_eq!(full.raw().last(), Some(("Y", Some("y".repeat(room).as_str()))));
    let too_long = Err(ParameterError::TooLong { limit: MAX_RAW });
    assert_eq!(two.with_raw("Y", Some(&"y".repeat(room + 1))), too_long);
    assert_eq!(full.with_raw("Z", None), too_long);
}

#[test]
fn what_the_servers_bounds_exclude_is_named() {
    let with = |parameters: MailParameters| {
        Envelope::parse("news@example.org", ["ann@example.net"]).unwrap().with_mail_parameters(parameters)
    };
    let by = |by: DeliverBy| with(MailParameters::new().with_deliver_by(by));
    let minimum = offers("DELIVERBY 240");
    let late = by(DeliverBy::or_return(239).unwrap()).unfit(&minimum);
    assert_eq!(late, Some(Unfit::DeliverBy { seconds: 239, minimum: 240 }));
    assert_eq!(late.unwrap().extension(), Extension::DeliverBy);
    assert_eq!(by(DeliverBy::or_return(240).unwrap()).unfit(&minimum), None);
    assert_eq!(by(DeliverBy::or_notify(1).unwrap()).unfit(&minimum), None);
    assert_eq!(by(DeliverBy::or_return(1).unwrap()).unfit(&offers("DELIVERBY")), None);

    let hold = |hold: Hold| with(MailParameters::new().with_hold(hold));
    let bounds = offers("FUTURERELEASE 86400 2030-01-31T12:00:00.5Z");
    let long = hold(Hold::seconds(86_401).unwrap()).unfit(&bounds).unwrap();
    assert_eq!(long, Unfit::HoldFor { seconds: 86_401, maximum: 86_400 });
    assert_eq!(hold(Hold::seconds(86_400).unwrap()).unfit(&bounds), None);
    assert_eq!(hold(Hold::until("2030-01-31T12:00:00Z").unwrap()).unfit(&bounds), None);
    let late = hold(Hold::until("2030-01-31T12:00:01Z").unwrap()).unfit(&bounds).unwrap();
    assert_eq!(late.extension(), Extension::FutureRelease);
    assert_eq!(
        late.to_string(),
        "FUTURERELEASE: the message is to be held until 2030-01-31T12:00:01Z, \
         and the server holds until 2030-01-31T12:00:00.5Z at the latest"
    );
    assert_eq!(hold(Hold::seconds(86_401).unwrap()).unfit(&offers("FUTURERELEASE")), None);
    assert_eq!(with(MailParameters::new().with_require_tls()).unfit(&minimum), None);
}

#[test]
fn errors_never_show_a_raw_control_character() {
    for error in [
        EnvelopeId::new("\x1b[31m").unwrap_err(),
        OriginalRecipient::new("\n", "x").unwrap_err(),
        MailParameters::new().with_raw("X", Some("\r")).unwrap_err(),
    ] {
        assert!(!error.to_string().chars().any(char::is_control), "{error}");
    }
}

#[test]
fn a_body_is_named_as_its_extension_has_it() {
    let named =
        [Body::SevenBit, Body::EightBitMime, Body::BinaryMime].map(|body| (body.as_str(), body.extension()));
    let expected = [
        ("7BIT", Extension::EightBitMime),
        ("8BITMIME", Extension::EightBitMime),
        ("BINARYMIME", Extension::BinaryMime),
    ];
    assert_eq!(named, expected);
}
