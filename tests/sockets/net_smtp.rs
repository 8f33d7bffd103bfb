//! The calls of Net::SMTP, in order and out of it.

use smtp_bulk::{Error, MailerBuilder, NetSmtp};

use crate::support::{Log, builder, host, run, sink};

/// A handler that numbers no mail.
fn quiet(builder: MailerBuilder) -> MailerBuilder {
    builder.handler(())
}

async fn one_mail(smtp: &mut NetSmtp<'_>, to: &[&str], body: &str) -> Result<(), Error> {
    smtp.mail("news@example.org")?;
    for address in to {
        smtp.to(address)?;
    }
    smtp.data()?;
    smtp.datasend("Subject: hello\n\n")?;
    smtp.datasend(body)?;
    smtp.dataend().await
}

#[test]
fn one_dataend_queues_one_message() {
    let sink = sink(|sink| sink);
    run(async {
        let builder = quiet(builder(&Log::default()).host(host(&sink)).threads(2));
        let mut mailer = builder.connect().await.unwrap();
        let mut smtp = mailer.net_smtp();
        one_mail(&mut smtp, &["a@example.net"], "one").await.unwrap();
        assert_eq!(sink.counts().mails, 0, "the batch has one of two");
        one_mail(&mut smtp, &["<b@example.net>"], ".two\n").await.unwrap();
        assert_eq!(sink.counts().mails, 2);

        smtp.mail("<>").unwrap();
        smtp.to("c@example.net").unwrap();
        smtp.cc("d@example.net").unwrap();
        smtp.bcc("e@example.net").unwrap();
        smtp.recipient("f@example.net").unwrap();
        smtp.data().unwrap();
        smtp.dataend().await.unwrap();
        let summary = smtp.quit("the end").await.unwrap();
        assert_eq!((summary.taken, summary.mails.delivered, summary.recipients.delivered), (3, 3, 6));
    });
    let mut stored: Vec<_> = sink
        .mails()
        .iter()
        .map(|mail| {
            let content = String::from_utf8(mail.content.clone()).unwrap();
            (mail.forward_paths.join(" "), mail.reverse_path.clone(), content)
        })
        .collect();
    stored.sort();
    let mail = |to: &str, from: &str, content: &str| (to.to_owned(), from.to_owned(), content.to_owned());
    assert_eq!(
        stored,
        [
            mail("a@example.net", "news@example.org", "Subject: hello\r\n\r\none\r\n"),
            mail("b@example.net", "news@example.org", "Subject: hello\r\n\r\n.two\r\n"),
            mail("c@example.net d@example.net e@example.net f@example.net", "", ""),
        ]
    );
}

#[test]
fn a_call_out_of_order_says_what_has_to_come_first_and_changes_nothing() {
    let sink = sink(|sink| sink);
    run(async {
        let builder = quiet(builder(&Log::default()).host(host(&sink)));
        let mut mailer = builder.connect().await.unwrap();
        let mut smtp = mailer.net_smtp();
        let says = |result: Result<(), Error>, line: &str| {
            let error = result.expect_err(line);
            assert!(matches!(error, Error::OutOfOrder { .. }), "{error}");
            let (call, before) = line.split_once(" before ").unwrap();
            assert_eq!(error.to_string(), format!("`{call}` was called before `{before}`"));
        };
        says(smtp.to("a@example.net"), "to before mail");
        says(smtp.recipient("a@example.net"), "to before mail");
        says(smtp.data(), "data before mail and to");
        says(smtp.datasend("x"), "datasend before data");
        says(smtp.dataend().await, "dataend before data");

        smtp.mail("news@example.org").unwrap();
        says(smtp.data(), "data before mail and to");
        says(smtp.datasend("x"), "datasend before data");
        says(smtp.dataend().await, "dataend before data");
        assert!(matches!(smtp.mail("no address"), Err(Error::Address(_))));
        assert!(matches!(smtp.to("a@b\r\nDATA"), Err(Error::Address(_))));
        smtp.to("a@example.net").unwrap();
        says(smtp.datasend("x"), "datasend before data");
        smtp.data().unwrap();
        says(smtp.mail("other@example.org"), "mail before dataend");
        says(smtp.to("b@example.net"), "to before mail");
        says(smtp.data(), "data before mail and to");
        says(smtp.quit(1).await.map(drop), "quit before dataend");
        smtp.datasend("all is well").unwrap();
        smtp.dataend().await.unwrap();
        says(smtp.dataend().await, "dataend before data");
        assert_eq!(smtp.quit(1).await.unwrap().mails.delivered, 1);
    });
    let mails = sink.mails();
    assert_eq!(mails[0].reverse_path, "news@example.org");
    assert_eq!(mails[0].forward_paths, ["a@example.net"]);
    assert_eq!(mails[0].content, b"all is well\r\n");
}

#[test]
fn reset_gives_up_a_draft_and_reconnect_keeps_the_queue() {
    let sink = sink(|sink| sink);
    run(async {
        let builder = quiet(builder(&Log::default()).host(host(&sink)).threads(2));
        let mut mailer = builder.connect().await.unwrap();
        let mut smtp = mailer.net_smtp();
        smtp.mail("old@example.org").unwrap();
        smtp.mail("older@example.org").unwrap();
        smtp.to("old@example.net").unwrap();
        assert!(
            matches!(smtp.mail("new@example.org"), Err(Error::OutOfOrder { .. })),
            "a recipient would be lost"
        );
        smtp.reset();
        one_mail(&mut smtp, &["new@example.net"], "body").await.unwrap();
        smtp.reconnect().await.unwrap();
        assert_eq!(sink.counts().connections, 4);
        assert_eq!(smtp.quit(7).await.unwrap().mails.delivered, 1);
        // A view that is dropped in the middle of a message forgets it.
        let mut smtp = mailer.net_smtp();
        smtp.mail("news@example.org").unwrap();
        assert_eq!(mailer.quit().await.unwrap().taken, 1);
    });
    assert_eq!(sink.mails()[0].forward_paths, ["new@example.net"]);
}
