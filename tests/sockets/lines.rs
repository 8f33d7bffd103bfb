//! The lines that servers say, told as they are read.

use std::sync::{Arc, Mutex};

use smtp_bulk::{Credentials, Pace};

use crate::scripted::Scripted;
use crate::support::{Log, PATIENCE, builder, host, mail, run, sink};

type Heard = Arc<Mutex<Vec<String>>>;

fn heard() -> (Heard, impl FnMut(&smtp_bulk::ReadLine<'_>) + Send + 'static) {
    let heard = Heard::default();
    let hears = Arc::clone(&heard);
    (heard, move |line: &smtp_bulk::ReadLine<'_>| hears.lock().unwrap().push(line.to_string()))
}

#[test]
fn every_line_is_told_in_its_order_whatever_becomes_of_it() {
    for pace in [Pace::Lockstep, Pace::Free] {
        let sink = sink(|sink| sink);
        let (heard, hears) = heard();
        let log = Log::default();
        let builder = builder(&log).host(host(&sink)).threads(1).pace(pace).on_read(hears);
        run(async {
            let mut mailer = builder.connect().await?;
            mailer.send(mail(1)).await?;
            mailer.quit().await
        })
        .unwrap();
        let heard = heard.lock().unwrap();
        let codes: Vec<&str> = heard.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(codes.first(), Some(&"220"), "{heard:?}");
        assert_eq!(codes.get(codes.len() - 5..).unwrap(), ["250", "250", "354", "250", "221"], "{heard:?}");
        assert!(heard.iter().all(|line| line.starts_with("127.0.0.1:0 ")), "{heard:?}");
    }
}

#[test]
fn a_line_is_told_before_its_reply_is_whole() {
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    let waits = Mutex::new(waits);
    let peer = Scripted::start(move |mut peer| {
        peer.say("220-first\r\n");
        waits.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        peer.say("220 second\r\n");
        while peer.line().is_some() {
            peer.say("250 fine\r\n");
        }
    });
    let log = Log::default();
    let builder = builder(&log).host(peer.host().threads(1)).on_read(move |line| {
        if line.line == b"220-first" {
            go_on.send(()).unwrap();
        }
    });
    run(builder.connect()).unwrap();
}

#[test]
fn of_an_authentication_only_the_size_is_told() {
    let sink = sink(|sink| sink.user("tim", "tanstaaftanstaaf").auth_before_tls(true));
    let (heard, hears) = heard();
    let log = Log::default();
    let credentials = Credentials::password("tim", "tanstaaftanstaaf").allow_without_tls();
    let builder = builder(&log).host(host(&sink)).threads(1).credentials(credentials).on_read(hears);
    run(async { builder.connect().await?.quit().await }).unwrap();
    let heard = heard.lock().unwrap();
    assert!(heard.iter().any(|line| line.ends_with("octets withheld: AUTH)")), "{heard:?}");
    assert!(!heard.iter().any(|line| line.contains("235") || line.contains("334")), "{heard:?}");
}

#[test]
fn a_callback_that_panics_on_a_line_loses_no_mail() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let mut left = 3;
    let builder = builder(&log).host(host(&sink)).threads(2).on_read(move |line| {
        if line.line.starts_with(b"354") && left > 0 {
            left -= 1;
            panic!("on purpose");
        }
    });
    let mut mailer = run(builder.connect()).unwrap();
    let mut sent = 0;
    let mut panics = 0;
    while sent < 10 {
        if mailer.try_send(mail(sent)).is_ok() {
            sent += 1;
        }
        let ready = std::panic::AssertUnwindSafe(|| run(mailer.ready()));
        panics += u32::from(std::panic::catch_unwind(ready).is_err());
    }
    let summary = loop {
        let quit = std::panic::AssertUnwindSafe(|| run(mailer.quit()));
        match std::panic::catch_unwind(quit) {
            Ok(summary) => break summary.unwrap(),
            Err(_) => panics += 1,
        }
    };
    assert_eq!((summary.mails.delivered, sink.counts().mails, panics), (10, 10, 3));
}
