//! Several things in one flight: what is said together at each level and depth,
//! and when lanes wait for one another.

use super::*;

#[test]
fn at_level_0_a_step_is_one_command() {
    let mut script = flights(1, CHUNKS, Pipeline::Single, 1);
    script.take(mail(1));
    assert_eq!(steps(&mut script), ["MAIL", "RCPT", "DATA", "content"]);
}

#[test]
fn at_level_1_the_envelope_is_a_step_and_the_content_another() {
    let mut script = flights(1, CHUNKS, Pipeline::Envelope, 1);
    script.take(mail_to(1, &["ann@example.net", "bob@example.net"]));
    assert_eq!(steps(&mut script), ["MAIL RCPT RCPT DATA", "content"]);
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn nothing_is_pipelined_that_the_server_does_not_offer() {
    for level in [Pipeline::Envelope, Pipeline::Full] {
        let mut script = flights(1, "250-mx.example\r\n250 CHUNKING\r\n", level, 1);
        script.take(mail(1));
        assert_eq!(steps(&mut script), ["MAIL", "RCPT", "DATA", "content"]);
    }
}

#[test]
fn at_level_2_with_chunking_a_mail_is_a_step() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    script.take(mail(1));
    script.take(mail(2));
    assert_eq!(steps(&mut script), ["MAIL RCPT BDAT", "MAIL RCPT BDAT"]);
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
}

#[test]
fn at_level_2_without_chunking_the_next_envelope_goes_with_the_content() {
    let mut script = flights(1, DOTS, Pipeline::Full, 1);
    script.take(mail(1));
    script.take(mail(2));
    assert_eq!(steps(&mut script), ["MAIL RCPT DATA", "content MAIL RCPT DATA", "content"]);
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
}

#[test]
fn with_depth_whole_transactions_are_a_step_with_rset_between_them() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 3);
    (1..=3).for_each(|id| script.take(mail(id)));
    let all = "MAIL RCPT BDAT RSET MAIL RCPT BDAT RSET MAIL RCPT BDAT";
    assert_eq!(steps(&mut script), [all]);
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1), (3, "delivered", 1)]);
}

#[test]
fn with_depth_a_lane_sends_its_mails_one_after_the_other() {
    let mut script = flights(1, DOTS, Pipeline::Envelope, 2);
    (1..=2).for_each(|id| script.take(mail(id)));
    let all = ["MAIL RCPT DATA", "content", "MAIL RCPT DATA", "content"];
    assert_eq!(steps(&mut script), all);
    assert_eq!(script.coordinator.summary(script.now).batches, 1);
}

#[test]
fn a_deal_gives_every_lane_one_mail_before_any_gets_two() {
    let mut script = flights(2, CHUNKS, Pipeline::Full, 2);
    (1..=3).for_each(|id| script.take(mail(id)));
    script.coordinator.set_flushing(true);
    script.settle();
    let held: Vec<usize> = script.lanes().map(Lane::held).collect();
    assert_eq!(held, [2, 1]);
}

#[test]
fn all_or_nothing_asks_for_data_when_all_recipients_are_accepted() {
    for (offers, level, data) in
        [(DOTS, Pipeline::Envelope, "DATA"), (DOTS, Pipeline::Full, "DATA"), (CHUNKS, Pipeline::Full, "BDAT")]
    {
        let mut script = flights(1, offers, level, 1);
        script.take(mail_to(1, &["ann@example.net", "bob@example.net"]).all_or_nothing());
        let steps = steps(&mut script);
        assert_eq!(steps[..2], ["MAIL RCPT RCPT", data], "{level:?}");
        assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    }
}

#[test]
fn a_content_is_opened_once_for_an_attempt() {
    let opened = Rc::new(Cell::new(0));
    let to: Vec<String> = (0..600).map(|number| format!("r{number}@example.net")).collect();
    for (offers, level) in [(DOTS, Pipeline::Envelope), (CHUNKS, Pipeline::Full), (DOTS, Pipeline::Single)] {
        let mut script = flights(1, offers, level, 1);
        let count = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counted = std::sync::Arc::clone(&count);
        let content = crate::content::Content::reader(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(Box::new(&b"text"[..]))
        });
        let envelope = crate::envelope::Envelope::parse("news@example.org", &to).unwrap();
        script.take(Message::new(envelope, content).id(1));
        script.finish();
        opened.set(opened.get() + count.load(std::sync::atomic::Ordering::Relaxed));
        assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    }
    assert_eq!(opened.get(), 3);
}

#[test]
fn no_server_is_left_at_a_354_for_the_sake_of_a_slower_lane() {
    let mut script = flights(2, DOTS, Pipeline::Full, 1);
    script.serve(offering(DOTS, |asked| {
        let lags = asked.lane.thread == 1 && asked.what == "DATA";
        lags.then_some(Does::Say("451 later\r\n"))
    }));
    (1..=2).for_each(|id| script.take(mail(id)));
    script.coordinator.set_flushing(false);
    script.run();
    assert_eq!(script.said(lane(0, 0)), ["MAIL", "RCPT", "DATA", "content"]);
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    assert!(!script.progress.batch_running);
}

#[test]
fn a_caller_with_more_mails_at_hand_is_asked_for_them_before_a_content_goes_alone() {
    let mut script = flights(1, DOTS, Pipeline::Full, 1);
    script.coordinator.set_feeding(true);
    script.take(mail(1));
    script.settle();
    script.step();
    assert_eq!(script.progress.hungry, 1);
    script.take(mail(2));
    script.settle();
    assert_eq!(script.progress.hungry, 0);
    script.wire.clear();
    script.step();
    assert_eq!(script.said(lane(0, 0)), ["content", "MAIL", "RCPT", "DATA"]);
    assert_eq!(script.progress.hungry, 1);
    script.coordinator.set_feeding(false);
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
    assert!(!script.progress.batch_running);
}

#[test]
fn other_credentials_open_a_lane_anew_that_stands_at_a_354() {
    let mut script = flights(1, DOTS, Pipeline::Full, 1);
    script.coordinator.set_feeding(true);
    script.take(mail(1));
    script.settle();
    script.step();
    assert_eq!(script.progress.hungry, 1);
    let credentials = crate::auth::Credentials::password("ann", "secret").allow_without_tls();
    script.coordinator.authenticate(&credentials, script.now);
    script.serve(|asked| (asked.what == "EHLO").then_some(Does::Say("250-mx\r\n250 AUTH PLAIN\r\n")));
    script.coordinator.set_feeding(false);
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    assert!(script.lane(lane(0, 0)).session().is_authenticated());
}

#[test]
fn a_connection_lost_at_a_354_that_waited_for_the_next_mail_costs_no_attempt() {
    let mut script = flights(1, DOTS, Pipeline::Full, 1);
    script.coordinator.set_feeding(true);
    script.take(mail(1));
    script.settle();
    script.step();
    assert_eq!(script.progress.hungry, 1);
    script.coordinator.set_feeding(false);
    script.settle();
    script.lane_mut(lane(0, 0)).session_mut().lost(crate::failure::Failure::Closed);
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn no_envelope_goes_with_a_content_when_all_restart_at_the_batch_end() {
    let mut script = flights(2, DOTS, Pipeline::Full, 1);
    let mut orders = vec![Verdict::RESTART_AT_BATCH_END];
    script.decide(move |event| {
        let asked = event.lane.thread == 1 && event.step == Step::Mail;
        if asked { orders.pop().unwrap_or_default() } else { Verdict::DEFAULT }
    });
    (1..=4).for_each(|id| script.take(mail(id)));
    script.finish();
    let said = script.said(lane(0, 0));
    let alone = ["MAIL", "RCPT", "DATA", "content", "QUIT"];
    assert_eq!(said[..5], alone, "{said:?}");
    assert_eq!(script.lane(lane(0, 0)).connection(), 1);
    let all = [(1, "delivered", 1), (2, "delivered", 2), (3, "delivered", 1), (4, "delivered", 1)];
    assert_eq!(script.outcomes(), all);
}
