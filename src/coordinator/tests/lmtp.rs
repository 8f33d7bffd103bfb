//! LMTP: each recipient has a reply of its own to the content.

use super::*;

/// One lane that speaks LMTP by BDAT, to a server that answers the content for each
/// accepted recipient as it is told, the first time that it is asked about it.
fn lmtp(most_recipients: u32, codes: &'static [(&'static str, &'static str)]) -> Script {
    let mut script = Script::with(&[1], BatchSettings::default(), |host| {
        host.is_lmtp = true;
        host.pipeline = Pipeline::Full;
        host.max_recipients = Some(most_recipients);
    });
    let (mut accepted, mut answered) = (Vec::new(), Vec::new());
    script.serve(move |asked| match asked.what {
        "LHLO" => Some(Does::Say(CHUNKS)),
        "MAIL" => {
            accepted.clear();
            None
        }
        "RCPT" => {
            accepted.push(asked.line.to_owned());
            None
        }
        "BDAT" => {
            let mut reply = |to: &String| {
                let own = codes.iter().find(|(name, _)| to.contains(name)).filter(|_| !answered.contains(to));
                answered.push(to.clone());
                own.map_or("250 ok\r\n", |(_, reply)| reply)
            };
            let replies: String = accepted.iter().map(&mut reply).collect();
            Some(Does::Say(replies.leak()))
        }
        _ => None,
    });
    script.open();
    script
}

const FOUR: [&str; 4] = ["ann@x.example", "bob@x.example", "cy@x.example", "dan@x.example"];

#[test]
fn in_lmtp_each_reply_counts_for_its_recipient_whatever_was_said_before() {
    let mut script = Script::with(&[1], BatchSettings::default(), |host| {
        host.is_lmtp = true;
        host.pipeline = Pipeline::Full;
    });
    script.serve(|asked| match asked.what {
        "LHLO" => Some(Does::Say(CHUNKS)),
        "BDAT" => Some(Does::Say("550 no ann\r\n250 ok bob\r\n")),
        _ => None,
    });
    script.open();
    script.decide(|event| match (event.kind, event.step) {
        (EventKind::Pass, Step::Rcpt) => Verdict::DEFAULT.requeue(),
        _ => Verdict::DEFAULT,
    });
    script.take(mail_to(1, &["ann@example.net", "bob@example.net"]));
    script.finish();
    assert_eq!(script.notes.told[0].recipients, ["ann@example.net refused", "bob@example.net delivered"]);
}

#[test]
fn in_lmtp_the_order_of_the_replies_makes_no_difference() {
    for codes in [
        &[("ann", "451 busy\r\n"), ("cy", "451 busy\r\n")],
        &[("bob", "451 busy\r\n"), ("dan", "451 busy\r\n")],
    ] {
        let mut script = lmtp(2, codes);
        script.take(mail_to(1, &FOUR));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "delivered", 2)], "{codes:?}");
        let said = script.said(lane(0, 0)).join(" ");
        assert_eq!(said.matches("RCPT").count(), 6, "two were asked for a second time: {said}");
    }
}

#[test]
fn in_lmtp_a_drop_is_for_the_recipient_that_it_was_said_about() {
    for codes in
        [&[("ann", "451 busy\r\n"), ("bob", "550 no\r\n")], &[("ann", "550 no\r\n"), ("bob", "451 busy\r\n")]]
    {
        let mut script = lmtp(2, codes);
        script.decide(|event| match event.reply().map(|reply| reply.code().as_u16()) {
            Some(550) => Verdict::DEFAULT.drop_message(),
            _ => Verdict::DEFAULT,
        });
        script.take(mail_to(1, &FOUR[..2]));
        script.finish();
        let outcomes = script.notes.told[0].recipients.join(" ");
        assert!(outcomes.contains("dropped") && outcomes.contains("delivered"), "{codes:?}: {outcomes}");
    }
}

#[test]
fn in_lmtp_a_421_leaves_those_without_a_reply_in_doubt() {
    let mut script = lmtp(5, &[("bob", "421 closing\r\n")]);
    script.take(mail_to(1, &FOUR[..3]));
    script.finish();
    let told = &script.notes.told[0].recipients;
    let expected = ["ann@x.example delivered", "bob@x.example delivered", "cy@x.example in_doubt"];
    assert_eq!(*told, expected, "bob's 421 is bob's, who is tried again");
}

#[test]
fn a_refusal_under_104_that_blames_the_session_counts_an_attempt() {
    let mut script = Script::with(&[1], BatchSettings::default(), |host| {
        host.is_lmtp = true;
        host.pipeline = Pipeline::Full;
    });
    script.serve(|asked| match asked.what {
        "LHLO" => Some(Does::Say(CHUNKS)),
        "BDAT" => Some(Does::Say("503 5.5.1 not now\r\n")),
        _ => None,
    });
    script.open();
    script.decide(at(EventKind::Fail, Step::Content, Verdict::BENCH));
    script.take(mail(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "abandoned", 3)]);
}

#[test]
fn in_lmtp_a_recipient_that_is_blameless_each_time_is_not_tried_for_ever() {
    let mut script = Script::with(&[4], BatchSettings::default(), |host| host.is_lmtp = true);
    let mut accepted = [const { Vec::new() }; 4];
    script.serve(move |asked| match asked.what {
        "LHLO" => Some(Does::Say("250 mx.example\r\n")),
        "MAIL" => {
            accepted[asked.lane.thread as usize].clear();
            None
        }
        "RCPT" => {
            accepted[asked.lane.thread as usize].push(asked.line.contains("odd@"));
            None
        }
        "content" => {
            let accepted = &accepted[asked.lane.thread as usize];
            let replies = accepted.iter().map(|odd| if *odd { "421 closing\r\n" } else { "250 ok\r\n" });
            Some(Does::Say(replies.collect::<String>().leak()))
        }
        _ => None,
    });
    script.open();
    script.take(mail_to(0, &["ann@x.example", "odd@x.example"]));
    deliver_others(&mut script, 400);
    assert_eq!((script.outcomes().len(), script.outcomes()[0]), (401, (0, "partial", 3)));
    let told = script.notes.told.iter().find(|told| told.id == 0).unwrap();
    assert_eq!(told.recipients, ["ann@x.example delivered", "odd@x.example abandoned"]);
}
