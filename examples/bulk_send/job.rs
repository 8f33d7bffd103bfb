//! Everything that can be checked before a connection is opened: addresses, files, the message.
//! It must never touch the network; the file of undelivered mail is opened only when all is well,
//! and emptied later, when the mailer has found its settings in order.

use crate::args::{Args, DEFAULT_FROM, Recipients};
use crate::failed::{Failed, same_file};
use crate::input::{InputError, quoted};
use crate::ledger::Ledger;
use crate::progress::Progress;
use crate::recipients::{AddressCheck, Generated, Header, Record, Source, check};
use crate::stamp::Stamps;
use crate::template::{Mail, SAMPLE_BODY, Template};
use crate::trace::{MOST_BATCHES, Trace};
use jiff::Timestamp;
use smtp_bulk::{Credentials, Pace};
use std::path::Path;
use std::sync::Arc;

/// Says how a sender's address goes onto the wire, or what is wrong with it.
pub type SenderCheck<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// A run that is ready to start.
#[derive(Debug)]
pub struct Job {
    /// Recipients to come.
    pub source: Source,
    /// The book, with the file of undelivered mail open.
    pub ledger: Ledger,
    /// What the sessions do, if that is to be drawn, with its file open.
    pub trace: Option<Trace>,
    /// The progress bar, for what writes beside it.
    pub progress: Progress,
    /// What the user should know and may mean.
    pub warnings: Vec<String>,
    /// Makes the mails.
    pub mails: MailMaker,
    /// Who logs in, if anybody does.
    pub credentials: Option<Credentials>,
}

impl Job {
    /// Checks all input; an error is one line for the user. `from` and `recipient` judge addresses.
    pub fn prepare(args: &Args, from: SenderCheck<'_>, recipient: AddressCheck<'_>) -> Result<Self, String> {
        let bad = |reason| format!("--from: bad address {}: {reason}", quoted(&args.from));
        let from = from(&args.from).map_err(bad)?;
        let credentials = args.access.credentials()?;
        let prepared = Self::read(args, &from, recipient, credentials);
        prepared.map_err(|error| error.to_string())
    }

    /// `from` is the sender as it goes onto the wire: a header in that form needs no SMTPUTF8 where
    /// the envelope needs none (RFC 6532 §3.2).
    fn read(
        args: &Args,
        from: &str,
        recipient: AddressCheck<'_>,
        credentials: Option<Credentials>,
    ) -> Result<Self, InputError> {
        let (source, header, total) = open(&args.recipients, recipient)?;
        let template = match &args.message {
            Some(path) => Template::load(path, &header)?,
            None => Template::sample(from, &header, SAMPLE_BODY),
        };
        let warnings = warnings(args, &template);
        check_debug_path(args)?;
        let failed = match &args.failed {
            Some(path) => Some(Failed::create(path, &header, &inputs(args))?),
            None => None,
        };
        let trace = args.trace.as_deref().map(|path| trace(args, path)).transpose()?;
        let progress = Progress::new(total);
        Ok(Self {
            source,
            ledger: Ledger::new(failed, progress.clone()),
            trace,
            progress,
            warnings,
            mails: MailMaker { template: Arc::new(template), stamps: Stamps::new(from) },
            credentials,
        })
    }
}

/// Makes one mail per recipient, all of one template.
#[derive(Debug)]
pub struct MailMaker {
    template: Arc<Template>,
    stamps: Stamps,
}

impl MailMaker {
    /// The mail of one recipient, dated now.
    pub fn make(&mut self, record: Arc<Record>) -> Mail {
        let added = self.stamps.stamp(&self.template, Timestamp::now());
        Mail::new(Arc::clone(&self.template), record, added)
    }
}

fn open(
    recipients: &Recipients,
    address: AddressCheck<'_>,
) -> Result<(Source, Arc<Header>, u64), InputError> {
    match recipients {
        Recipients::File(path) => {
            let checked = check(path, address)?;
            let records = Box::new(checked.records()?);
            let header = Arc::clone(checked.header());
            Ok((Source::File(records), header, checked.count()))
        }
        Recipients::Count(count) => {
            let records = Generated::new(*count);
            let header = Arc::new(records.header().clone());
            Ok((Source::Generated(records), header, *count))
        }
    }
}

fn inputs(args: &Args) -> Vec<&Path> {
    let recipients = match &args.recipients {
        Recipients::File(path) => Some(path.as_path()),
        Recipients::Count(_) => None,
    };
    recipients.into_iter().chain(args.message.as_deref()).chain(args.access.files()).collect()
}

/// Debug lines are appended: to an input they would ruin it, to the list of failures the next run.
fn check_debug_path(args: &Args) -> Result<(), InputError> {
    let Some(debug) = args.debug_path.as_ref().map(Path::new) else { return Ok(()) };
    let mut others = inputs(args).into_iter().chain(args.failed.as_deref());
    match others.find(|other| same_file(debug, other)) {
        None => Ok(()),
        Some(other) => {
            let what = format!("cannot take the debug lines too ({}); name another file", debug.display());
            Err(InputError::file(other, what))
        }
    }
}

/// The picture is written over whatever there is, so that nothing else may be there.
fn trace(args: &Args, path: &Path) -> Result<Trace, InputError> {
    let debug = args.debug_path.as_ref().map(Path::new);
    let others: Vec<&Path> = inputs(args).into_iter().chain(args.failed.as_deref()).chain(debug).collect();
    let sessions = args.threads.saturating_mul(args.hosts.len().max(1)) as u64;
    // Where the pace is free each mail is a batch.
    let span = if args.pace == Pace::Free { sessions.max(1) } else { 1 };
    Trace::create(path, &others, MOST_BATCHES.saturating_mul(span))
}

fn warnings(args: &Args, template: &Template) -> Vec<String> {
    let mut warnings = Vec::new();
    if let (Some(line), Some(path)) = (template.fixed_message_id(), &args.message) {
        let what = "every mail gets the same Message-ID, and receivers drop duplicates";
        warnings.push(InputError::at(path, line, what).to_string());
    }
    let to_people = !args.hosts.is_empty() && matches!(args.recipients, Recipients::File(_));
    if to_people && !args.from_given {
        warnings.push(format!("no --from: the sender is {DEFAULT_FROM}"));
    }
    warnings.extend(args.access.warning().map(str::to_owned));
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Asked, parse};
    use std::fs;
    use std::io::Read;

    fn args(line: &[&str]) -> Args {
        match parse(["bulk_send"].iter().chain(line)).unwrap() {
            Asked::Run(args) => *args,
            Asked::Help => panic!("help"),
        }
    }

    fn judge(address: &str) -> Result<(), String> {
        match address.contains('@') {
            true => Ok(()),
            false => Err("no `@`".to_owned()),
        }
    }

    fn prepare(line: &[&str]) -> Result<Job, String> {
        let from = |address: &str| match address {
            "" => Ok(String::new()),
            address => judge(address).map(|()| address.replace("bücher", "xn--bcher-kva")),
        };
        Job::prepare(&args(line), &from, &judge)
    }

    #[test]
    fn mails_of_a_real_job_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (list, message) = (folder.path().join("r.csv"), folder.path().join("m.eml"));
        fs::write(&list, "email,name\na@b,Ann\nc@d,Bob\n").unwrap();
        fs::write(&message, "From: s@x\nTo: {{email}}\n\nHi {{name}}\n").unwrap();
        let (list, message) = (list.to_str().unwrap(), message.to_str().unwrap());
        let mut job = prepare(&["--recipients", list, "--message", message, "--from", "s@x"]).unwrap();
        assert!(job.warnings.is_empty());
        let mut texts = Vec::new();
        for record in job.source.by_ref() {
            let mail = job.mails.make(Arc::new(record.unwrap()));
            let mut text = String::new();
            mail.reader().read_to_string(&mut text).unwrap();
            assert_eq!(mail.len(), text.len() as u64);
            texts.push(text);
        }
        assert_eq!(texts.len(), 2);
        assert!(texts[1].starts_with("Date: ") && texts[1].contains("\r\nMessage-ID: <"));
        assert!(texts[1].ends_with(".2@x>\r\nFrom: s@x\nTo: c@d\n\nHi Bob\n"));
    }

    #[test]
    fn bad_input_leaves_an_older_file_of_undelivered_mail_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (list, failed) = (folder.path().join("r.csv"), folder.path().join("f.csv"));
        fs::write(&list, "a@b\nc\n").unwrap();
        fs::write(&failed, "precious").unwrap();
        let (list, failed) = (list.to_str().unwrap(), failed.to_str().unwrap());
        let error = prepare(&["--recipients", list, "--failed", failed]).unwrap_err();
        assert_eq!(error, format!("{list}:2: bad address `c`: no `@`"));
        assert_eq!(fs::read_to_string(failed).unwrap(), "precious");
        let error = prepare(&["--from", "nobody", "--failed", failed]).unwrap_err();
        assert_eq!(error, "--from: bad address `nobody`: no `@`");
        assert_eq!(fs::read_to_string(failed).unwrap(), "precious");
    }

    #[test]
    fn undelivered_mail_is_never_written_over_the_input() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("r.csv");
        fs::write(&list, "a@b\n").unwrap();
        let list = list.to_str().unwrap();
        assert!(prepare(&["--recipients", list, "--failed", list]).is_err());
        assert_eq!(fs::read_to_string(list).unwrap(), "a@b\n");
    }

    #[test]
    fn the_picture_is_never_drawn_over_the_input_or_the_other_output() {
        let folder = tempfile::tempdir().unwrap();
        let [list, mail, other] = ["r.csv", "m.eml", "f.csv"].map(|name| folder.path().join(name));
        fs::write(&list, "a@b\n").unwrap();
        fs::write(&mail, "To: x\n\n").unwrap();
        let [list, mail, other] = [&list, &mail, &other].map(|path| path.to_str().unwrap());
        for [option, path] in [["--failed", other], ["--message", mail], ["--debug-path", other]] {
            let debug = if option == "--debug-path" { "--debug=5" } else { "--json" };
            let more = [debug, "--recipients", list, option, path, "--trace", path];
            let error = prepare(&more).unwrap_err();
            let told = format!("{path}: cannot take the picture of --trace too ({path}); name another");
            assert_eq!(error, told, "{option}");
        }
        let error = prepare(&["--recipients", list, "--trace", list]).unwrap_err();
        assert!(error.starts_with(&format!("{list}: cannot take the picture")), "{error}");
        assert_eq!(fs::read_to_string(list).unwrap(), "a@b\n");
    }

    #[test]
    fn international_recipients_are_no_reason_to_warn() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("r");
        fs::write(&list, "a@b\nä@b\nö@b\n").unwrap();
        let job = prepare(&["--recipients", list.to_str().unwrap()]).unwrap();
        assert!(job.warnings.is_empty(), "{:?}", job.warnings);
    }

    #[test]
    fn the_header_has_the_senders_domain_as_it_is_on_the_wire() {
        let mut job = prepare(&["--count", "1", "--from", "s@bücher.example"]).unwrap();
        let record = job.source.next().unwrap().unwrap();
        let mut text = String::new();
        job.mails.make(Arc::new(record)).reader().read_to_string(&mut text).unwrap();
        assert!(text.contains("\r\nFrom: <s@xn--bcher-kva.example>\r\n"), "{text}");
        assert!(text.contains(".1@xn--bcher-kva.example>\r\n") && text.is_ascii(), "{text}");
    }

    #[test]
    fn fixed_message_id_and_missing_sender_are_warnings() {
        let folder = tempfile::tempdir().unwrap();
        let (list, message) = (folder.path().join("r"), folder.path().join("m.eml"));
        fs::write(&list, "a@b\n").unwrap();
        fs::write(&message, "To: x\nMessage-ID: <1@x>\n\n").unwrap();
        let (list, message) = (list.to_str().unwrap(), message.to_str().unwrap());
        let job = prepare(&["--host", "h", "--recipients", list, "--message", message]).unwrap();
        let [fixed, sender] = &job.warnings[..] else {
            panic!("{:?}", job.warnings);
        };
        assert!(fixed.starts_with(&format!("{message}:2: every mail gets the same Message-ID")));
        assert_eq!(sender, "no --from: the sender is sender@example.net");
    }
}
