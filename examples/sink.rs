//! Runs the embedded server by itself, and prints its counts as one JSON object when it is stopped.
//!
//! ```text
//! cargo run --release --example sink -- --port 2525
//! cargo run --release --example sink -- --port 2525 --announce pipelining --announce chunking
//! cargo run --release --example sink -- --port 2525 --fault rcpt:refuse=450:0.1 --maildir /tmp/mails
//! ```
//!
//! The first line on standard output is the address that it listens on, the last one the counts.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use async_signal::{Signal, Signals};
use lexopt::{Arg, Parser, ValueExt};
use smol::Unblock;
use smol::future::{self, FutureExt};
use smol::io::AsyncReadExt;
use smol::stream::StreamExt;
use smtp_bulk::sink::{Builder, Circumstance, Counts, Extension, Fault, Identity, Keep, Misdeed, Sink, Step};

const USAGE: &str = "\
sink: an SMTP server that takes every mail and counts

  --port N               listen on this port (default: a free one)
  --bind ADDRESS         listen on this address (default 127.0.0.1)
  --hostname NAME        call itself this (default localhost)
  --maildir DIR          write every mail into this Maildir (default: drop it)
  --max-connections N    answer 421 beyond so many (default 10000)
  --max-recipients N     answer 452 beyond so many in one mail (default 1000)
  --max-size BYTES       answer 552 to larger mails (default 64 MiB)
  --idle SECONDS         close silent connections (default 300)
  --fault STEP[+WHEN]:MISDEED[:PROBABILITY]   misbehave; repeatable
      STEP     greeting ehlo helo mail rcpt data content dot bdat chunk rset noop vrfy expn
               etrn quit starttls tls auth challenge
      MISDEED  refuse=CODE refuse-unread=CODE refuse-close=CODE 421 delay=MILLISECONDS hang
               close close-after half half-close garbage long=BYTES surplus=CODE lose-input
      WHEN     followed (more was read together with it), behind-content (it was read together
               with the end of a content), all-refused (all recipients of the mail were)
  --starttls CERT KEY    offer STARTTLS with this chain and PKCS #8 key, both PEM files
  --implicit-tls CERT KEY              speak TLS from the first byte
  --user NAME:FILE       offer AUTH to this user, whose password is in FILE; repeatable
  --require-auth         answer 530 to mails before AUTH
  --announce EXTENSION   offer this extension, by its keyword, or all; repeatable
  --conceal EXTENSION    do not offer it; repeatable
  --ehlo-line TEXT       add this line to the reply to EHLO; repeatable
  --strict-pipelining    answer 500 and close where PIPELINING is used unannounced
  --max-mails N          answer 421 beyond so many mails over one connection (default: any number)
  --lmtp                 speak LMTP
  --unix PATH            listen on this Unix socket too
  --reject PREFIX        answer 550 to recipients that begin with this; repeatable
  --seed N               what the probabilities begin with (default 0)
  --until-eof            also stop when standard input ends
  -h, --help             print this
";

struct Options {
    builder: Builder,
    until_eof: bool,
}

fn main() -> ExitCode {
    let result = options().and_then(|options| options.map_or(Ok(()), run));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sink: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    // Before the address is printed, because whoever reads it may send the signal at once.
    let mut signals = Signals::new([Signal::Int, Signal::Term])?;
    let mut sink = options.builder.start()?;
    let mut stdout = io::stdout();
    writeln!(stdout, "{}", sink.address())?;
    stdout.flush()?;
    let signalled = async {
        signals.next().await;
    };
    smol::block_on(signalled.or(end_of_input(options.until_eof)));
    writeln!(stdout, "{}", json(&sink.stop()))?;
    Ok(())
}

/// Ends with standard input, or never when that is not wanted.
async fn end_of_input(wanted: bool) {
    if !wanted {
        return future::pending().await;
    }
    let mut stdin = Unblock::new(io::stdin());
    let mut dropped = [0; 1024];
    while matches!(stdin.read(&mut dropped).await, Ok(1..)) {}
}

/// The options, or none when only help was wanted.
fn options() -> Result<Option<Options>, Box<dyn Error>> {
    let mut builder = Sink::builder().keep(Keep::Nothing);
    let mut until_eof = false;
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        let name = match argument {
            Arg::Short('h') => "help".to_owned(),
            Arg::Long(name) => name.to_owned(),
            _ => return Err(argument.unexpected().into()),
        };
        match name.as_str() {
            "help" => {
                print!("{USAGE}");
                return Ok(None);
            }
            "until-eof" => until_eof = true,
            "port" => builder = builder.port(parser.value()?.parse()?),
            "bind" => builder = builder.address(parser.value()?.parse::<IpAddr>()?),
            "hostname" => builder = builder.hostname(parser.value()?.string()?),
            "maildir" => builder = builder.maildir(parser.value()?),
            "max-connections" => builder = builder.max_connections(parser.value()?.parse()?),
            "max-recipients" => builder = builder.max_recipients(parser.value()?.parse()?),
            "max-size" => builder = builder.max_message_size(parser.value()?.parse::<u64>()?),
            "idle" => {
                let seconds = parser.value()?.parse()?;
                builder = builder.idle_timeout(Duration::from_secs(seconds));
            }
            "fault" => builder = builder.fault(parser.value()?.parse_with(fault)?),
            "reject" => builder = builder.refuse_recipients(parser.value()?.string()?, 550),
            "starttls" => builder = builder.starttls(identity(&mut parser)?),
            "implicit-tls" => builder = builder.implicit_tls(identity(&mut parser)?),
            "user" => {
                let (name, password) = parser.value()?.parse_with(user)?;
                builder = builder.user(name, password);
            }
            "require-auth" => builder = builder.require_auth(),
            "seed" => builder = builder.seed(parser.value()?.parse()?),
            _ => builder = extended(builder, &name, &mut parser)?,
        }
    }
    Ok(Some(Options { builder, until_eof }))
}

/// The options of what is beyond plain SMTP.
fn extended(builder: Builder, name: &str, parser: &mut Parser) -> Result<Builder, Box<dyn Error>> {
    Ok(match name {
        "announce" => {
            extensions(&parser.value()?.string()?)?.iter().copied().fold(builder, Builder::announce)
        }
        "conceal" => extensions(&parser.value()?.string()?)?.iter().copied().fold(builder, Builder::conceal),
        "ehlo-line" => builder.ehlo_line(parser.value()?.string()?),
        "strict-pipelining" => builder.strict_pipelining(),
        "max-mails" => builder.max_mails(parser.value()?.parse()?),
        "lmtp" => builder.lmtp(),
        #[cfg(unix)]
        "unix" => builder.unix_path(parser.value()?),
        _ => return Err(Arg::Long(name).unexpected().into()),
    })
}

/// Reads the keyword of an extension, or `all`.
fn extensions(keyword: &str) -> Result<Vec<Extension>, String> {
    let named = |extension: &Extension| extension.keyword().eq_ignore_ascii_case(keyword);
    match Extension::ALL.into_iter().find(named) {
        Some(extension) => Ok(vec![extension]),
        None if keyword == "all" => Ok(Extension::ALL.to_vec()),
        None => Err(format!("no extension is called {keyword:?}")),
    }
}

/// Reads the files of a certificate chain and its key.
fn identity(parser: &mut Parser) -> Result<Identity, Box<dyn Error>> {
    let (chain, key) = (parser.value()?, parser.value()?);
    Ok(Identity::from_pkcs8(&fs::read(chain)?, &fs::read(key)?)?)
}

/// Reads `NAME:FILE`; a password on the command line would be there for all to see.
fn user(text: &str) -> Result<(String, String), Box<dyn Error + Send + Sync>> {
    let (name, file) = text.split_once(':').ok_or("a user is NAME:FILE")?;
    let password = fs::read_to_string(file)?;
    Ok((name.to_owned(), password.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Reads `STEP[+CIRCUMSTANCE]:MISDEED[:PROBABILITY]`.
fn fault(text: &str) -> Result<Fault, Box<dyn Error + Send + Sync>> {
    let mut parts = text.splitn(3, ':');
    let place = parts.next().unwrap_or_default();
    let misdeed = misdeed(parts.next().ok_or("a fault is STEP:MISDEED[:PROBABILITY]")?)?;
    let fault = match place.split_once('+') {
        None => Fault::new(step(place)?, misdeed),
        Some((name, circumstance)) => {
            Fault::new(step(name)?, misdeed).when(self::circumstance(circumstance)?)
        }
    };
    Ok(match parts.next() {
        Some(probability) => fault.probability(probability.parse()?),
        None => fault,
    })
}

fn circumstance(name: &str) -> Result<Circumstance, String> {
    Ok(match name {
        "followed" => Circumstance::Followed,
        "behind-content" => Circumstance::BehindContent,
        "all-refused" => Circumstance::AllRefused,
        _ => return Err(format!("no circumstance is called {name:?}")),
    })
}

fn step(name: &str) -> Result<Step, String> {
    Ok(match name {
        "greeting" => Step::Greeting,
        "ehlo" => Step::Ehlo,
        "helo" => Step::Helo,
        "mail" => Step::Mail,
        "rcpt" => Step::Rcpt,
        "data" => Step::Data,
        "content" => Step::Content,
        "dot" => Step::Dot,
        "bdat" => Step::Bdat,
        "chunk" => Step::Chunk,
        "rset" => Step::Rset,
        "noop" => Step::Noop,
        "vrfy" => Step::Vrfy,
        "expn" => Step::Expn,
        "etrn" => Step::Etrn,
        "quit" => Step::Quit,
        "starttls" => Step::StartTls,
        "tls" => Step::Tls,
        "auth" => Step::Auth,
        "challenge" => Step::Challenge,
        _ => return Err(format!("no step is called {name:?}")),
    })
}

fn misdeed(text: &str) -> Result<Misdeed, Box<dyn Error + Send + Sync>> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Ok(match name {
        "refuse" => Misdeed::refuse(value.parse()?, "refused as told"),
        "refuse-unread" => Misdeed::RefuseUnread(value.parse()?, "refused as told".to_owned()),
        "refuse-close" => Misdeed::RefuseClose(value.parse()?, "refused as told".to_owned()),
        "421" => Misdeed::Close421,
        "delay" => Misdeed::Delay(Duration::from_millis(value.parse()?)),
        "hang" => Misdeed::Hang,
        "close" => Misdeed::Close,
        "close-after" => Misdeed::CloseAfter,
        "half" => Misdeed::HalfReply,
        "half-close" => Misdeed::HalfReplyClose,
        "garbage" => Misdeed::garbage(),
        "long" => Misdeed::LongReply(value.parse()?),
        "surplus" => Misdeed::surplus(value.parse()?, "nobody asked for this"),
        "lose-input" => Misdeed::LoseInput,
        _ => return Err(format!("no misdeed is called {name:?}").into()),
    })
}

fn json(counts: &Counts) -> String {
    let members = [
        ("connections", counts.connections),
        ("open", counts.open),
        ("peak_open", counts.peak_open),
        ("lost", counts.lost),
        ("mails", counts.mails),
        ("recipients", counts.recipients),
        ("bytes", counts.bytes),
        ("refused", counts.refused),
        ("faults", counts.faults),
        ("resets", counts.resets),
        ("protocol_errors", counts.protocol_errors),
        ("tls_handshakes", counts.tls_handshakes.into()),
        ("tls_failures", counts.tls_failures.into()),
        ("auth_attempts", counts.auth_attempts.into()),
        ("auth_successes", counts.auth_successes.into()),
        ("auth_failures", counts.auth_failures.into()),
    ];
    let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}
