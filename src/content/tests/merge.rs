//! What a merge makes of a template and its values.

use super::{FRAMINGS, LIMITS, framed};
use crate::content::template::{MAX_FIELDS, MAX_PLACES};
use crate::content::*;
use crate::outgoing::Outgoing;
use allocation_counter::measure;

/// The mail, pasted together in the plainest way.
fn pasted(template: &str, values: &[(&str, &str)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
}

fn made(template: &str, values: &[(&str, &str)]) -> Result<String, MergeError> {
    let content = Template::parse(template).unwrap().merge(values.iter().copied())?;
    let sent = framed(&content, Framing::Raw, 1000).unwrap();
    assert_eq!(content.known_len(), Some(sent.len() as u64));
    assert_eq!(content.body_kind() == Some(Body::SevenBit), sent.is_ascii());
    Ok(String::from_utf8(sent).unwrap())
}

/// One header with `a` and `b` in it.
fn header(template: &str, a: &str, b: &str) -> Result<String, MergeError> {
    let values = [("a", a), ("b", b)];
    let used: Vec<_> =
        values.into_iter().filter(|(name, _)| template.contains(&format!("{{{{{name}}}}}"))).collect();
    made(&format!("{template}\r\n\r\nbody"), &used)
        .map(|text| text.strip_suffix("\r\n\r\nbody").unwrap().to_owned())
}

fn fault(template: &str, a: &str) -> HeaderFault {
    match header(template, a, "") {
        Err(MergeError::Header { field, fault, .. }) if &*field == "a" => fault,
        other => panic!("{template:?} with {a:?}: {other:?}"),
    }
}

fn wrong(template: impl AsRef<[u8]>) -> (TemplateErrorKind, usize, usize) {
    let error = Template::parse(template).unwrap_err();
    assert!(error.to_string().starts_with(&format!("line {}, octet {}: ", error.line(), error.column())));
    (error.kind(), error.line(), error.column())
}

#[test]
fn a_merge_sends_what_the_pasted_text_would() {
    let mut random = fastrand::Rng::with_seed(8);
    let text = |random: &mut fastrand::Rng, most: usize| -> String {
        (0..random.usize(0..most)).map(|_| random.choice(['\r', '\n', '.', 'a']).unwrap()).collect()
    };
    for round in 0..4_000 {
        let mut template = if round % 2 == 0 { "\n" } else { "A: {{x}}\r\n\r\n" }.to_owned();
        for _ in 0..random.usize(0..6) {
            template.push_str(&text(&mut random, 5));
            template.push_str(random.choice(["{{x}}", "{{y}}", "{{z}}", ""]).unwrap());
        }
        template.push_str(&text(&mut random, 5));
        let x = if round % 2 == 0 { text(&mut random, 6) } else { ".x".to_owned() };
        let (y, z) = (text(&mut random, 4), text(&mut random, 2));
        let values: Vec<_> = [("x", &*x), ("y", &*y), ("z", &*z)]
            .into_iter()
            .filter(|(name, _)| template.contains(&format!("{{{{{name}}}}}")))
            .collect();
        let merged = Template::parse(&template).unwrap().merge(values.iter().copied()).unwrap();
        let plain = Content::from(pasted(&template, &values));
        assert_eq!(merged.known_len(), plain.known_len());
        for framing in FRAMINGS {
            let expected = framed(&plain, framing, 1000).unwrap();
            for limit in LIMITS {
                let sent = framed(&merged, framing, limit).unwrap();
                let shown = || (template.clone(), values.clone(), framing, limit);
                assert_eq!(
                    sent.escape_ascii().to_string(),
                    expected.escape_ascii().to_string(),
                    "{:?}",
                    shown()
                );
            }
            assert_eq!(merged.framed_len(framing), Some(expected.len() as u64), "{template:?} {values:?}");
        }
        let promised = merged.clone().promise(plain.known_len().unwrap());
        assert!(framed(&promised, Framing::Dotted, 3).is_ok());
        let short = merged.promise(plain.known_len().unwrap() + 1);
        assert!(matches!(framed(&short, Framing::Dotted, 3), Err(ContentError::TooShort { .. })));
    }
}

#[test]
fn a_thousand_merges_need_memory_for_their_values_only() {
    let body = "A line of the letter that they all get, and its end.\r\n".repeat(100 * 1024 / 54);
    let text = format!(
        "To: \"{{{{name}}}}\" <{{{{to}}}}>\r\nSubject: For {{{{name}}}}\r\n\r\nDear {{{{name}}}},\r\n{body}"
    );
    let template = Template::parse(text).unwrap();
    let mut kept = Vec::with_capacity(1000);
    let used = measure(|| {
        for number in 0..1000 {
            let to = format!("user{number}@example.net");
            kept.push(template.merge([("name", "Ann Example"), ("to", &to)]).unwrap());
        }
    });
    assert!(used.bytes_current < 1000 * 400, "{used:?}");
    assert!(used.bytes_total < 1000 * 800, "{used:?}");
    // An attempt needs no memory of its own, either.
    let mut out = Outgoing::copying(Vec::with_capacity(256 * 1024));
    let used = measure(|| {
        for content in &kept {
            out.clear();
            let filled = content.open(Framing::Dotted).unwrap().fill(&mut out, 200 * 1024).unwrap();
            assert_eq!(filled, Filled::ToEnd);
        }
    });
    assert_eq!((used.count_total, out.len() as u64), (0, kept[0].framed_len(Framing::Dotted).unwrap() + 2));
}

#[test]
fn a_template_says_what_is_wrong_and_where() {
    use TemplateErrorKind::{
        Misplaced, Name, NotUtf8, TooManyFields, TooManyPlaces, Unclosed, UnclosedQuote,
    };
    let facts: [(&[u8], TemplateErrorKind, usize, usize); 22] = [
        (b"\nHello {{name", Unclosed, 2, 7),
        (b"\r\nHello\r\n{{name\r\n}}", Unclosed, 3, 1),
        (b"\r\rHello {{name\r}}", Unclosed, 3, 7),
        (b"\n{{}}", Name, 2, 1),
        (b"\n {{  }}", Name, 2, 2),
        (b"\n{{a b}}", Name, 2, 1),
        (b"\n{{{a}}}", Name, 2, 1),
        (b"\n{{a {{b}}", Name, 2, 1),
        ("\n{{grüße}}".as_bytes(), Name, 2, 1),
        (b"{{a}}", Misplaced, 1, 1),
        (b"Hello {{a}}\n\n", Misplaced, 1, 7),
        (b"A: b\n{{a}}\n\n", Misplaced, 2, 1),
        (b"A: b\n{{a}} c\n\n", Misplaced, 2, 1),
        (b"A: b\nX-{{a}}: c\n\n", Misplaced, 2, 3),
        (b"A b: {{a}}\n\n", Misplaced, 1, 6),
        (b" : {{a}}\n\n", Misplaced, 1, 4),
        (b"A: b\r{{a}}\n\r\n", Misplaced, 2, 1),
        (b"To: \"\\{{a}}\" <a@b>\n\n", Misplaced, 1, 7),
        (b"To: \"{{a}} <a@b>\r\nA: b\n\n", UnclosedQuote, 1, 6),
        (b"Subject: \xff{{a}}\n\n", NotUtf8, 1, 11),
        (b"A: b\n\n\xff{{a}}{{", Unclosed, 3, 7),
        (b"A: b\n\n{{{{a}}{{", Unclosed, 3, 8),
    ];
    for (template, kind, line, column) in facts {
        assert_eq!(wrong(template), (kind, line, column), "{}", template.escape_ascii());
    }
    let many: String = (0..=MAX_FIELDS).map(|number| format!("\n{{{{f{number}}}}}")).collect();
    assert_eq!(wrong(many), (TooManyFields, MAX_FIELDS + 2, 1));
    let many = format!("\n{}", "{{a}}".repeat(MAX_PLACES + 1));
    assert_eq!(wrong(many), (TooManyPlaces, 2, 5 * MAX_PLACES + 1));
    assert_eq!(wrong(format!("\n{{{{{}}}}}", "a".repeat(65))).0, Name);
}

#[test]
fn fields_have_names_and_braces_can_be_written() {
    let template = Template::parse("\n{{ b-1 }} {{a_2}}{{\tb-1}} {{x.y}} } }} { {{{{b-1}}").unwrap();
    assert_eq!(template.fields().collect::<Vec<_>>(), ["b-1", "a_2", "x.y"]);
    let content = template.merge_in_order(&["1", "2", "3"]).unwrap();
    assert_eq!(framed(&content, Framing::Raw, 100).unwrap(), b"\n1 21 3 } }} { {{b-1}}");
    assert_eq!(format!("{template:?}"), "Template { fields: [\"b-1\", \"a_2\", \"x.y\"], .. }");
    let none = Template::parse("Subject: no fields\n\n").unwrap();
    assert!(none.merge::<&str, &str>([]).is_ok());
}

#[test]
fn values_have_to_fit_the_fields() {
    let template = Template::parse("\n{{a}}{{b}}{{a}}").unwrap();
    let error = |values: &[(&str, &str)]| template.merge(values.iter().copied()).unwrap_err().to_string();
    assert_eq!(error(&[("a", "")]), "no value for the field `b`");
    assert_eq!(error(&[("a", ""), ("b", ""), ("A\n", "")]), "the template has no field `A\\n`");
    assert_eq!(error(&[("a", ""), ("b", ""), ("a", "")]), "two values for the field `a`");
    assert_eq!(template.merge_in_order(&["1"]).unwrap_err().to_string(), "1 values for 2 fields");
    let any = template.merge_in_order(&[&b"\xff\0\r"[..], b"\n"]).unwrap();
    assert_eq!(framed(&any, Framing::Raw, 100).unwrap(), b"\n\xff\0\r\n\xff\0\r");
}

#[test]
fn no_value_breaks_a_header() {
    for template in [
        "Subject: {{a}}",
        "Subject: x\r\n {{a}}x",
        "To: {{a}} <x@y>",
        "To: \"{{a}}\" <x@y>",
        "To: <{{a}}>",
        "Message-ID: {{a}}",
        "X: ({{a}})",
        "To: x@y ({{a}})",
    ] {
        for value in
            ["\r", "\n", "\0", "x\r\nBcc: evil@example.net", "x\r\n\r\nbody", "\x0b", "\x1b", "\u{85}"]
        {
            assert_eq!(fault(template, value), HeaderFault::Control, "{template:?} {value:?}");
        }
    }
    let template = Template::parse("Subject: {{a}}\n\n").unwrap();
    let error = template.merge([("a", &b"\xff"[..])]).unwrap_err();
    let says = "the value of the field `a` cannot stand in the header Subject: it is not UTF-8";
    assert_eq!(error.to_string(), says);
    let special = |template: &str, value: &str, letter| {
        assert_eq!(fault(template, value), HeaderFault::Special(letter), "{template:?} {value:?}");
    };
    special("To: {{a}}", "x@y, evil@example.net", ',');
    special("To: {{a}}", "Ann <x@y>", '<');
    special("To: {{a}}@example.org", "grün,", ',');
    special("To: <{{a}}>", "x@y>, <evil@example.net", '>');
    special("To: <{{a}}>", "x y", ' ');
    special("To: Ann (x\\) {{a}}) <x@y>", "a) b", ')');
    special("To: Ann ({{a}}) <x@y>", "ü\\", '\\');
    special("List-Unsubscribe: <https://x.example/{{a}}>", "a b", ' ');
    for template in
        ["Subject: x\r\n {{a}}\r\nTo: x@y", "Subject: x\r\n\t{{a}} \r\nTo: x@y", "Date:\r\n {{a}}"]
    {
        assert_eq!(fault(template, ""), HeaderFault::Blank, "{template:?}");
        assert_eq!(fault(template, " \t"), HeaderFault::Blank, "{template:?}");
    }
    assert_eq!(header("Subject: {{a}}", "", "").unwrap(), "Subject: ");
    assert_eq!(header("Subject:{{a}}\r\n x", "", "").unwrap(), "Subject:\r\n x");
}

#[test]
fn what_is_not_ascii_is_encoded_where_that_is_allowed() {
    let word = |text: &str| {
        use base64::Engine as _;
        format!("=?utf-8?B?{}?=", base64::engine::general_purpose::STANDARD.encode(text))
    };
    let facts = [
        ("Subject: Hi {{a}}!", "Jörg", "", format!("Subject: Hi {}", word("Jörg!"))),
        ("Subject: Hi {{a}}!", "Ann \"x\", y", "", "Subject: Hi Ann \"x\", y!".to_owned()),
        ("Subject: {{a}} {{b}}", "Jörg", "Müller", format!("Subject: {} {}", word("Jörg"), word(" Müller"))),
        ("Subject: {{a}} {{b}}", "Jo", "Müller", format!("Subject: Jo {}", word("Müller"))),
        ("Subject: {{a}} von {{b}}", "ä", "ö", format!("Subject: {} von {}", word("ä"), word("ö"))),
        ("Subject: {{a}}\r\n {{b}}", "ä", "ö", format!("Subject: {}\r\n {}", word("ä"), word(" ö"))),
        (
            "Subject: =?u?q?x?= {{a}} =?u?q?y?=",
            "ä",
            "",
            format!("Subject: =?u?q?x?= {} =?u?q?y?=", word(" ä ")),
        ),
        ("Subject: =?u?q?x?= {{a}} {{b}}", "x", "ä", format!("Subject: =?u?q?x?= x {}", word("ä"))),
        ("Subject: {{a}} {{b}} =?u?q?y?=", "ä", "x", format!("Subject: {} x =?u?q?y?=", word("ä"))),
        ("Subject: Grüße, {{a}}", "x", "", "Subject: Grüße, x".to_owned()),
        ("Subject: {{a}}", "=?utf-8?Q?=C3=A4?=", "", "Subject: =?utf-8?Q?=C3=A4?=".to_owned()),
        ("To: {{a}} <{{b}}>", "Jörg", "j@x", format!("To: {} <j@x>", word("Jörg"))),
        ("To: {{a}}<{{b}}>", "Jörg, der", "j@x", format!("To: {}<j@x>", word("Jörg, der"))),
        ("To: {{a}} <{{b}}>", "Ann", "ann@x", "To: Ann <ann@x>".to_owned()),
        ("To: {{a}} <{{b}}>", "Smith, \"J\"", "j@x", "To: \"Smith, \\\"J\\\"\" <j@x>".to_owned()),
        ("To: Dr.{{a}} <{{b}}>", "O(x)", "j@x", "To: \"Dr.O(x)\" <j@x>".to_owned()),
        ("To: \"{{a}}\" <{{b}}>", "Smith, \"J\" \\", "j@x", "To: \"Smith, \\\"J\\\" \\\\\" <j@x>".to_owned()),
        ("To: \"Dr. \\\"{{a}}\" <{{b}}>", "ä", "j@x", format!("To: {} <j@x>", word("Dr. \"ä"))),
        ("To: \"{{a}} {{b}}\" <j@x>", "ä", "o", format!("To: {} <j@x>", word("ä o"))),
        ("To: \"{{a}}\r\n o\" <j@x>", "ä", "", format!("To: {} <j@x>", word("ä o"))),
        ("To: {{a}}, {{b}}", "a@x", "ä@x", "To: a@x, ä@x".to_owned()),
        ("cc: <{{a}}@x>", "ä", "", "cc: <ä@x>".to_owned()),
        ("To: j@x (von {{a}})", "ä", "", format!("To: j@x (von {})", word("ä"))),
        ("Message-ID: {{a}}", "<1@x>", "", "Message-ID: <1@x>".to_owned()),
        ("Content-Type: x; name=\"{{a}}\"", "\"", "", "Content-Type: x; name=\"\\\"\"".to_owned()),
    ];
    for (template, a, b, expected) in facts {
        assert_eq!(header(template, a, b).unwrap(), expected, "{template:?} {a:?} {b:?}");
    }
    for template in
        ["Message-ID: {{a}}", "Content-Type: x; name=\"{{a}}\"", "List-Help: <{{a}}>", "To: \"{{a}}\"@x"]
    {
        assert_eq!(fault(template, "ä"), HeaderFault::NotAscii, "{template:?}");
    }
}

#[test]
fn a_long_value_becomes_encoded_words_of_whole_characters() {
    let long = "äöü€𝄞".repeat(50);
    let made = header("Subject: {{a}}", &long, "").unwrap();
    let mut decoded = String::new();
    for line in made.strip_prefix("Subject: ").unwrap().split("\r\n ") {
        use base64::Engine as _;
        assert!(line.len() <= 75, "{line}");
        let word = line.strip_prefix("=?utf-8?B?").unwrap().strip_suffix("?=").unwrap();
        let octets = base64::engine::general_purpose::STANDARD.decode(word).unwrap();
        decoded.push_str(std::str::from_utf8(&octets).expect("no character is cut"));
    }
    assert_eq!(decoded, long);
}

#[test]
fn the_header_ends_at_the_first_empty_line_however_lines_end() {
    for end in ["\n\n", "\r\n\r\n", "\r\r", "\n\r", "\r\n\n", "\n\r\n", "\r\n\r"] {
        let template = Template::parse(format!("A: {{{{a}}}}{end}{{{{b}}}}")).unwrap();
        assert!(template.merge([("a", "x"), ("b", "\r\n")]).is_ok(), "{end:?}");
        assert!(template.merge([("a", "\r\n"), ("b", "x")]).is_err(), "{end:?}");
    }
    // A field between the two octets of what would be one line end.
    let template = Template::parse("A: b\r\n\r{{a}}\nc").unwrap();
    for value in ["", "x", "\n", "\r\n"] {
        let merged = framed(&template.merge_in_order(&[value]).unwrap(), Framing::Dotted, 9).unwrap();
        let plain = framed(&Content::from(format!("A: b\r\n\r{value}\nc")), Framing::Dotted, 9).unwrap();
        assert_eq!(merged, plain, "{value:?}");
    }
}
