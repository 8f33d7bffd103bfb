//! What a server offers and what a mail needs: each decision of docs/EXTENSIONS.md.

use std::sync::{Arc, Mutex};

use smtp_bulk::parameters::{
    DeliverBy, EnvelopeId, Hold, MailParameters, Notify, OriginalRecipient, Priority, RecipientParameters,
    Ret,
};
use smtp_bulk::sink::{Extension as Offer, Fault, Misdeed, Sink, Step as At};
use smtp_bulk::{
    Body, ClientReason, Content, Envelope, Extension, Message, MessageId, Outcome, Pipeline, RefusedBy,
};

use crate::support::{Log, builder, host, send_and_quit, sink};

fn server(offers: impl IntoIterator<Item = Offer>) -> Arc<Sink> {
    sink(|sink| offers.into_iter().fold(sink, |sink, offer| sink.announce(offer)))
}

fn envelope() -> Envelope {
    Envelope::parse("news@example.org", ["ann@example.net"]).unwrap()
}

/// Sends one mail, and gives why the client refused it, if it did.
fn refusal(sink: &Sink, message: Message) -> Option<ClientReason> {
    let reason = Arc::new(Mutex::new(None));
    let told = Arc::clone(&reason);
    let settings = builder(&Log::default()).host(host(sink)).on_report(move |report| match report.outcome {
        Outcome::Refused(RefusedBy::Client(reason)) => *told.lock().unwrap() = Some(reason.clone()),
        Outcome::Delivered(_) => {}
        other => panic!("{other}"),
    });
    send_and_quit(settings, [message.id(1)]);
    assert_eq!(sink.counts().protocol_errors, 0);
    let reason = reason.lock().unwrap();
    reason.clone()
}

/// What MAIL and RCPT said beyond the addresses.
fn said(sink: &Sink) -> (String, String) {
    let mails = sink.take_mails();
    let mail = mails.last().expect("a mail");
    (mail.parameters.trim().to_owned(), mail.recipient_parameters[0].trim().to_owned())
}

fn missing(extension: Extension) -> Option<ClientReason> {
    Some(ClientReason::MissingExtension(extension))
}

#[test]
fn size_is_declared_where_it_is_offered_and_a_larger_mail_is_not_begun() {
    let plain = server([]);
    assert_eq!(refusal(&plain, Message::new(envelope(), "x".repeat(5_000))), None);
    assert_eq!(said(&plain).0, "");
    let sink = sink(|sink| sink.announce(Offer::Size).max_message_size(1_000));
    assert_eq!(refusal(&sink, Message::new(envelope(), "x".repeat(900))), None);
    assert_eq!(said(&sink).0, "SIZE=900");
    let reason = refusal(&sink, Message::new(envelope(), "x".repeat(1_001)));
    assert_eq!(reason, Some(ClientReason::TooLarge { size: 1_001, limit: 1_000 }));
    assert_eq!(sink.counts().refused, 0, "nothing was asked");
}

#[test]
fn the_body_is_declared_where_that_is_offered() {
    let sink = server([Offer::EightBitMime]);
    assert_eq!(refusal(&sink, Message::new(envelope(), "plain\r\n")), None);
    assert_eq!(said(&sink).0, "");
    assert_eq!(refusal(&sink, Message::new(envelope(), "grå\r\n")), None);
    assert_eq!(said(&sink).0, "BODY=8BITMIME");
    let reader = || Content::reader(|| Ok(Box::new(&b"who knows\r\n"[..])));
    assert_eq!(refusal(&sink, Message::new(envelope(), reader())), None);
    assert_eq!(said(&sink).0, "BODY=8BITMIME", "what nobody has looked at may be anything");
}

#[test]
fn eight_bit_content_is_refused_without_8bitmime_unless_that_is_allowed() {
    let sink = server([]);
    let message = || Message::new(envelope(), "grå\r\n");
    assert_eq!(refusal(&sink, message()), missing(Extension::EightBitMime));
    let settings = builder(&Log::default()).host(host(&sink).eight_bit_anyway(true));
    assert_eq!(send_and_quit(settings, [message().id(1)]).mails.delivered, 1);
    assert_eq!(said(&sink).0, "");
}

#[test]
fn binary_content_goes_raw_by_bdat_or_not_at_all() {
    let raw = b"\0\n.\r\r\n.\r\nMAIL FROM:<x@y>\r\n\xff no end";
    let message = || Message::new(envelope(), Content::from(raw.to_vec()).body(Body::BinaryMime));
    for level in [Pipeline::Single, Pipeline::Envelope, Pipeline::Full] {
        let sink = server([Offer::Pipelining, Offer::Chunking, Offer::BinaryMime]);
        let settings = builder(&Log::default()).host(host(&sink).pipeline(level));
        assert_eq!(send_and_quit(settings, [message().id(1)]).mails.delivered, 1, "{level:?}");
        let mails = sink.take_mails();
        assert_eq!((mails[0].content.as_slice(), mails[0].chunks), (&raw[..], 1));
        assert_eq!(mails[0].parameters.trim(), "BODY=BINARYMIME");
    }
    assert_eq!(refusal(&server([Offer::Chunking]), message()), missing(Extension::BinaryMime));
}

#[test]
fn an_address_beyond_ascii_needs_smtputf8_only_where_its_local_part_does() {
    let domain = || Envelope::parse("news@exämple.org", ["ann@bücher.example"]).unwrap();
    let local = || Envelope::parse("news@example.org", ["grå@bücher.example"]).unwrap();
    let plain = server([]);
    assert_eq!(refusal(&plain, Message::new(domain(), "")), None);
    let stored = plain.take_mails();
    assert_eq!(stored[0].reverse_path, "news@xn--exmple-cua.org");
    assert_eq!(stored[0].forward_paths, ["ann@xn--bcher-kva.example"]);
    assert_eq!(refusal(&plain, Message::new(local(), "")), missing(Extension::SmtpUtf8));
    let able = server([Offer::SmtpUtf8, Offer::EightBitMime]);
    assert_eq!(refusal(&able, Message::new(domain(), "").require(Extension::SmtpUtf8)), None);
    assert_eq!(said(&able).0, "SMTPUTF8", "for header fields, where the caller says so");
    assert_eq!(refusal(&able, Message::new(local(), "")), None);
    let stored = able.take_mails();
    assert_eq!(stored[0].forward_paths, ["grå@bücher.example"]);
    assert_eq!(stored[0].parameters.trim(), "SMTPUTF8");
}

#[test]
fn notifications_are_asked_for_where_that_is_possible() {
    let message = || {
        let mail =
            MailParameters::new().with_ret(Ret::Headers).with_envelope_id(EnvelopeId::new("a=b").unwrap());
        let to = RecipientParameters::new()
            .with_notify(Notify::FAILURE | Notify::DELAY)
            .with_original_recipient(OriginalRecipient::new("rfc822", "robert@example.com").unwrap());
        Message::new(envelope().with_mail_parameters(mail).with_recipient_parameters(to), "")
    };
    let able = server([Offer::Dsn]);
    assert_eq!(refusal(&able, message()), None);
    let (mail, rcpt) = said(&able);
    assert_eq!(mail, "RET=HDRS ENVID=a+3Db");
    assert_eq!(rcpt, "NOTIFY=FAILURE,DELAY ORCPT=rfc822;robert@example.com");
    let plain = server([]);
    assert_eq!(refusal(&plain, message()), None);
    assert_eq!(said(&plain), (String::new(), String::new()));
    assert_eq!(refusal(&plain, message().require(Extension::Dsn)), missing(Extension::Dsn));
}

#[test]
fn what_a_mail_needs_is_refused_by_the_client_where_it_is_lacking() {
    let with = |parameters| Message::new(envelope().with_mail_parameters(parameters), "");
    let late = || with(MailParameters::new().with_deliver_by(DeliverBy::or_return(600).unwrap()));
    let held = || with(MailParameters::new().with_hold(Hold::seconds(60).unwrap()));
    let tls = || with(MailParameters::new().with_require_tls());
    let urgent = || with(MailParameters::new().with_priority(Priority::new(5).unwrap()));
    let plain = server([]);
    assert_eq!(refusal(&plain, late()), missing(Extension::DeliverBy));
    assert_eq!(refusal(&plain, held()), missing(Extension::FutureRelease));
    assert_eq!(refusal(&plain, tls()), Some(ClientReason::NoTls));
    assert_eq!(refusal(&plain, urgent()), None);
    let able = server([Offer::DeliverBy, Offer::MtPriority, Offer::FutureRelease]);
    for (message, parameter) in [(late(), "BY=600;R"), (held(), "HOLDFOR=60"), (urgent(), "MT-PRIORITY=5")] {
        assert_eq!(refusal(&able, message), None);
        assert_eq!(said(&able).0, parameter);
    }
}

#[test]
fn raw_parameters_are_sent_whatever_is_offered() {
    let parameters = MailParameters::new().with_raw("XODD", Some("1")).unwrap();
    let sink = server([]);
    let settings = builder(&Log::default()).host(host(&sink));
    let message = Message::new(envelope().with_mail_parameters(parameters), "");
    assert_eq!(
        send_and_quit(settings, [message.id(1)]).mails.refused,
        1,
        "the sink has never heard of it: 555"
    );
}

#[test]
fn a_refusal_of_a_mails_own_parameter_switches_nothing_off_for_others() {
    let own = MailParameters::new().with_raw("XODD", Some("1")).unwrap();
    let sink = server([Offer::Size, Offer::EightBitMime]);
    let settings = builder(&Log::default()).host(host(&sink).threads(1));
    let mail = |id| Message::new(envelope(), "grå\r\n").id(id);
    let odd = mail(1).with_envelope(envelope().with_mail_parameters(own));
    let summary = send_and_quit(settings, [mail(0), odd, mail(2)]);
    // It is said twice: once without what nobody asked for.
    assert_eq!((summary.mails.delivered, summary.mails.refused, summary.requeued), (2, 1, 1), "{summary}");
    let said: Vec<String> = sink.mails().iter().map(|mail| mail.parameters.trim().to_owned()).collect();
    assert_eq!(said, ["SIZE=6 BODY=8BITMIME"; 2]);
}

#[test]
fn parameters_that_nobody_asked_for_never_burn_a_mail() {
    for code in [501, 555, 500, 503] {
        let sink = sink(|sink| {
            let odd = Fault::new(At::Mail, Misdeed::refuse(code, "what is SIZE?"));
            sink.announce(Offer::Size).announce(Offer::EightBitMime).fault(odd.times(1))
        });
        let settings = builder(&Log::default()).host(host(&sink));
        let mails = (0..5).map(|id| Message::new(envelope(), "grå\r\n").id(id));
        let summary = send_and_quit(settings, mails);
        assert_eq!((summary.mails.delivered, summary.requeued), (5, 1), "{code}: {summary}");
        assert!(sink.mails().iter().all(|mail| mail.parameters.trim().is_empty()), "not used from then on");
        let connections = if code < 501 || code == 503 { 2 } else { 1 };
        assert_eq!(summary.hosts[0].connections, connections, "{code}");
    }
}

#[test]
fn a_501_about_the_sender_is_about_the_sender() {
    let odd = Fault::new(At::Mail, Misdeed::refuse(501, "5.1.7 bad sender"));
    let sink = sink(|sink| sink.announce(Offer::Size).fault(odd));
    let summary =
        send_and_quit(builder(&Log::default()).host(host(&sink)), [Message::new(envelope(), "").id(1)]);
    assert_eq!((summary.mails.refused, summary.requeued), (1, 0));
}

#[test]
fn a_server_that_knows_helo_alone_takes_mail() {
    let old = Fault::new(At::Ehlo, Misdeed::refuse(502, "5.5.1 what?"));
    let sink = sink(|sink| sink.fault(old).announce(Offer::Pipelining).announce(Offer::Size));
    let settings = builder(&Log::default()).host(host(&sink).pipeline(Pipeline::Full));
    let mails = (0..5).map(|id| Message::new(envelope(), "").id(MessageId::Number(id)));
    assert_eq!(send_and_quit(settings, mails).mails.delivered, 5);
    assert_eq!(sink.counts().protocol_errors, 0);
}
