//! What a mail must not go without: TLS on its whole way, and a deadline or a release within the
//! bounds that the server states. Where that is not to be had the client refuses the mail before it
//! says MAIL, in words that name the extension.

use std::sync::Arc;
use std::time::Duration;

use smtp_bulk::parameters::{DeliverBy, Hold, MailParameters};
use smtp_bulk::sink::{Builder, Extension as Offer, Fault, Misdeed, Sink, Step as At};
use smtp_bulk::{Host, Message, Pipeline, Security, Tls};

use crate::certs::Authority;
use crate::support::{Log, PATIENCE, builder, check_accounts, host, mail, send_and_quit, sink};

/// Has the sink count each MAIL, as a fault that changes nothing.
fn counting(builder: Builder) -> Builder {
    builder.fault(Fault::new(At::Mail, Misdeed::Delay(Duration::ZERO)))
}

fn with(id: u64, parameters: MailParameters) -> Message {
    let message = mail(id);
    let envelope = message.envelope().clone().with_mail_parameters(parameters);
    message.with_envelope(envelope)
}

/// How often MAIL was said, when every connection is over.
fn begun(sink: &Sink) -> u64 {
    sink.wait_for(|counts| counts.open == 0, PATIENCE).unwrap().faults
}

/// Sends one mail: what MAIL said beyond the address, or the client's words for refusing the mail, of
/// which the server has heard nothing then.
fn send(sink: &Sink, host: Host, parameters: MailParameters) -> Result<String, String> {
    let before = begun(sink);
    let log = Log::default();
    let summary = send_and_quit(builder(&log).host(host), [with(1, parameters)]);
    let said = begun(sink) - before;
    assert_eq!(sink.counts().protocol_errors, 0);
    if summary.mails.delivered == 0 {
        assert_eq!((summary.mails.refused, said), (1, 0), "{summary}");
        return Err(log.reports(|all| all[0].line.clone()));
    }
    assert_eq!((summary.mails.delivered, said), (1, 1), "{summary}");
    let stored = sink.take_mails();
    Ok(stored.last().unwrap().parameters.trim().to_owned())
}

fn requiring_tls() -> MailParameters {
    MailParameters::new().with_require_tls()
}

/// A server under TLS of both kinds, and the client's host for it.
fn protected(set: impl Fn(Builder) -> Builder) -> [(Arc<Sink>, Host); 2] {
    let authority = Authority::new();
    let tls = Tls::new().root_certificate(authority.pem()).only_these_roots();
    [Security::StartTls, Security::Implicit].map(|security| {
        let sink = sink(|builder| {
            let (builder, identity) = (set(counting(builder)), authority.good().identity());
            if security == Security::StartTls {
                builder.starttls(identity)
            } else {
                builder.implicit_tls(identity)
            }
        });
        let host = host(&sink).security(security).tls(tls.clone());
        (sink, host)
    })
}

#[test]
fn tls_on_the_whole_way_is_asked_for_where_it_is_offered_under_tls() {
    for (sink, host) in protected(|sink| sink.announce(Offer::RequireTls)) {
        assert_eq!(send(&sink, host.clone(), requiring_tls()), Ok("REQUIRETLS".to_owned()));
        assert_eq!(send(&sink, host, MailParameters::new()), Ok("".to_owned()));
    }
}

#[test]
fn tls_that_ends_at_a_server_without_requiretls_is_not_enough() {
    for (sink, host) in protected(|sink| sink) {
        let words = "refused: the message needs REQUIRETLS, which is not to be had";
        assert_eq!(send(&sink, host, requiring_tls()), Err(words.to_owned()));
    }
}

/// The offer is one that no server should make (RFC 8689 §2).
#[test]
fn requiretls_offered_without_tls_is_not_used() {
    let sink = sink(|sink| counting(sink).ehlo_line("REQUIRETLS"));
    for security in [Security::None, Security::OpportunisticStartTls] {
        let words = "refused: the message needs REQUIRETLS, and the session has no verified TLS";
        assert_eq!(send(&sink, host(&sink).security(security), requiring_tls()), Err(words.to_owned()));
    }
}

#[test]
fn requiretls_is_not_asked_of_a_server_that_nobody_has_verified() {
    let good = Authority::new().good();
    let sink = sink(|sink| counting(sink).announce(Offer::RequireTls).starttls(good.identity()));
    let words = "refused: the message needs REQUIRETLS, and the session has no verified TLS";
    for security in [Security::StartTlsUnverified, Security::OpportunisticStartTlsUnverified] {
        let sent = send(&sink, host(&sink).security(security), requiring_tls());
        assert_eq!(sent, Err(words.to_owned()), "{security:?}");
    }
    assert_eq!(begun(&sink), 0);
}

#[test]
fn a_deadline_is_held_against_the_servers_minimum() {
    let by = |by: DeliverBy| MailParameters::new().with_deliver_by(by);
    let or_return = |seconds| by(DeliverBy::or_return(seconds).unwrap());
    let or_notify = |seconds| by(DeliverBy::or_notify(seconds).unwrap());
    let sink = sink(|sink| counting(sink).announce(Offer::DeliverBy).ehlo_line("DELIVERBY 240"));
    let told = |parameters| send(&sink, host(&sink), parameters);
    let words =
        "refused: DELIVERBY: the message is to be delivered in 239 s, and the server wants 240 s at least";
    assert_eq!(told(or_return(239)), Err(words.to_owned()));
    assert_eq!(told(or_return(240)), Ok("BY=240;R".to_owned()));
    // The minimum is for mails that are to come back (RFC 2852 §2).
    assert_eq!(told(or_notify(1)), Ok("BY=1;N".to_owned()));
}

/// The embedded server holds for 30 days, and until the end of 2099.
#[test]
fn a_release_is_held_against_the_servers_latest() {
    let hold = |hold: Hold| MailParameters::new().with_hold(hold);
    let seconds = |seconds| hold(Hold::seconds(seconds).unwrap());
    let until = |date_time| hold(Hold::until(date_time).unwrap());
    let sink = sink(|sink| counting(sink).announce(Offer::FutureRelease));
    let told = |parameters| send(&sink, host(&sink), parameters);
    let words = "refused: FUTURERELEASE: the message is to be held for 2592001 s, \
                 and the server holds for 2592000 s at most";
    assert_eq!(told(seconds(2_592_001)), Err(words.to_owned()));
    assert_eq!(told(seconds(2_592_000)), Ok("HOLDFOR=2592000".to_owned()));
    let words = "refused: FUTURERELEASE: the message is to be held until 2100-01-01T00:00:00Z, \
                 and the server holds until 2099-12-31T23:59:59Z at the latest";
    assert_eq!(told(until("2100-01-01T00:00:00Z")), Err(words.to_owned()));
    assert_eq!(told(until("2099-12-31T23:59:59Z")), Ok("HOLDUNTIL=2099-12-31T23:59:59Z".to_owned()));
}

#[test]
fn a_mail_outside_the_bounds_stops_no_other_of_its_flight() {
    for (level, depth) in [(Pipeline::Single, 1), (Pipeline::Envelope, 3), (Pipeline::Full, 5)] {
        for chunking in [false, true] {
            let sink = sink(|sink| {
                let sink = counting(sink).announce(Offer::Pipelining).announce(Offer::FutureRelease);
                if chunking { sink.announce(Offer::Chunking) } else { sink }
            });
            let log = Log::default();
            let hold = |id| Hold::seconds(if id % 3 == 0 { 2_592_001 } else { 60 }).unwrap();
            let mails = (0..20).map(|id| with(id, MailParameters::new().with_hold(hold(id))));
            let host = host(&sink).pipeline(level).depth(depth);
            let summary = send_and_quit(builder(&log).host(host), mails);
            check_accounts(&summary, &log, &[&sink]);
            assert_eq!((summary.mails.delivered, summary.mails.refused), (13, 7), "{level:?} {depth}");
            assert_eq!((summary.requeued, summary.hosts[0].connections), (0, 1), "{level:?} {depth}");
            assert_eq!(begun(&sink), 13, "no MAIL for the others");
        }
    }
}
