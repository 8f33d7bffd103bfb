//! What a lane says next: puts the flight together from where its mails stand
//! and from what its server lets be sent at once. It judges nothing.
//!
//! ```text
//!  Single     RSET │ MAIL │ RCPT │ … │ DATA │ content
//!  Envelope   RSET MAIL RCPT … DATA │ content
//!  Overlap    … DATA │ content MAIL RCPT … DATA │ content MAIL …
//!  Whole      MAIL RCPT … BDAT content  RSET MAIL RCPT … BDAT content  …
//! ```

use super::judge::Judge;
use super::lane::{Lane, Part};
use super::mail::{Course, Mail};
use super::manners::{Manners, Style};
use super::terms::{Terms, Wording};
use crate::content::{ContentStream, Framing};
use crate::event::Handler;
use crate::outcome::ClientReason;
use crate::parameters::Body;
use crate::session::{Flight, MailTag, Room, Step};

/// A mail that cannot be sent on its lane, for a reason of the client's own.
pub(super) struct Unfit {
    pub(super) tag: MailTag,
    pub(super) step: Step,
    pub(super) reason: ClientReason,
}

impl<H: Handler + ?Sized> Judge<'_, H> {
    /// The mail is one of the lane's; what it says of it comes later.
    pub(super) fn deal(&mut self, mut mail: Mail) {
        self.desk.count_held(self.lane.id, true);
        let lane = &mut *self.lane;
        lane.last_tag = MailTag(lane.last_tag.0.wrapping_add(1).max(1));
        mail.begin_attempt(lane.id, lane.last_tag);
        lane.part = self.desk.part();
        lane.dealt += 1;
        lane.begins_mail();
        (lane.has_kept_quiet, lane.is_woken) = (false, false);
        lane.mails.push_back(mail);
    }

    /// How the lane speaks to its server.
    pub(super) fn style(&self) -> Style {
        let manners = self.desk.manners.get(self.lane.id.host as usize);
        manners.map_or(Style::Single, |manners| manners.style(self.lane.session.extensions()))
    }

    /// Begins the next flight, if there is anything to say; the session is ready
    /// for it. Gives the first mail back by name where it cannot be sent.
    pub(super) fn speak(&mut self) -> Option<Unfit> {
        let style = self.style();
        let lane = &mut *self.lane;
        lane.is_poised = false;
        lane.forget_style();
        if std::mem::take(&mut lane.owes_dot) {
            // Nobody returns to the caller before the server has its content.
            lane.session.flight(self.now).lone_dot();
            return None;
        }
        if lane.mails.is_empty() {
            lane.part = Part::None;
        }
        // A straggler leaves no server waiting for what the batch does.
        let is_last = lane.mails.len() == 1 && lane.part == self.desk.part();
        match lane.mails.front()?.course {
            Course::AtContent if style == Style::Overlap && is_last => lane.is_poised = true,
            Course::AtContent => self.send_content(),
            _ if style == Style::Single => return self.say_one(),
            _ => return self.say_many(style),
        }
        None
    }

    /// Sends the content that the server waits for, and where that is the lane's
    /// way the envelope of the mail behind it.
    pub(super) fn send_content(&mut self) {
        let (now, style) = (self.now, self.style());
        let Some((lane, manners)) = self.parties() else { return };
        lane.is_poised = false;
        lane.forget_style();
        let mut mails = lane.mails.iter_mut();
        let Some(first) = mails.next() else { return };
        let mut flight = lane.session.flight(now);
        flight.for_mail(first.tag);
        flight.content();
        if let Some(mail) = mails.next().filter(|_| style == Style::Overlap) {
            let terms = Terms::of(flight.session(), &lane.host, manners);
            if let Ok(stream) = prepared(mail, &terms, style, flight.room()) {
                let wording = terms.wording();
                envelope(&mut flight, mail, wording, false, stream);
                lane.style = style;
            }
        }
    }

    /// The next command of the first mail.
    fn say_one(&mut self) -> Option<Unfit> {
        let now = self.now;
        let (lane, manners) = self.parties()?;
        let mail = lane.mails.front_mut()?;
        let terms = Terms::of(&lane.session, &lane.host, manners);
        let wording = terms.wording();
        let needs_reset = lane.session.needs_reset();
        let is_dealt = mail.course == Course::Dealt;
        let stream = match prepared(mail, &terms, Style::Single, Room::ALL) {
            Ok(stream) => stream,
            Err(reason) => return Some(Unfit::of(mail, reason)),
        };
        let mut flight = lane.session.flight(now);
        flight.for_mail(mail.tag);
        match (stream, mail.next_pending()) {
            _ if is_dealt && needs_reset => flight.reset(),
            _ if is_dealt => begin(&mut flight, mail, wording),
            (Some(stream), _) => ask_for_content(&mut flight, stream, false),
            (None, Some(place)) => ask_for(&mut flight, mail, wording, place),
            (None, None) => {}
        }
        None
    }

    /// All that may be said at once of the first mail, and of those behind it
    /// where whole transactions are.
    fn say_many(&mut self, style: Style) -> Option<Unfit> {
        let now = self.now;
        let (lane, manners) = self.parties()?;
        let mut room = lane.most_together();
        let mut mails = lane.mails.iter_mut();
        let first = mails.next()?;
        let terms = Terms::of(&lane.session, &lane.host, manners);
        let wording = terms.wording();
        let stream = match prepared(first, &terms, style, Room::ALL) {
            Ok(stream) => stream,
            Err(reason) => return Some(Unfit::of(first, reason)),
        };
        let needs_reset = lane.session.needs_reset();
        let mut flight = lane.session.flight(now);
        let mut is_whole = envelope(&mut flight, first, wording, needs_reset, stream);
        lane.style = if is_whole && style == Style::Whole { style } else { Style::Envelope };
        while is_whole && style == Style::Whole && !flight.is_full() && room > 1 {
            room -= 1;
            // One that cannot be sent is told of when it comes first.
            let Some(mail) = mails.next() else { break };
            let terms = Terms::of(flight.session(), &lane.host, manners);
            let Ok(stream) = prepared(mail, &terms, style, flight.room()) else { break };
            // Some servers keep a transaction whose BDAT they refused, and would
            // add the next mail's recipients to it.
            is_whole = envelope(&mut flight, mail, wording, true, stream);
        }
        None
    }

    /// The lane, and what is known of its host.
    fn parties(&mut self) -> Option<(&mut Lane, &Manners)> {
        let manners = self.desk.manners.get(self.lane.id.host as usize)?;
        Some((&mut *self.lane, manners))
    }
}

impl Unfit {
    fn of(mail: &Mail, reason: ClientReason) -> Unfit {
        let step = if mail.course == Course::Dealt { Step::Mail } else { Step::Data };
        Unfit { tag: mail.tag, step, reason }
    }
}

/// Whether the mail can be sent, and its opened content where that may be asked
/// for in this flight: together with the recipients where the style has it so, and
/// else when all are answered. All-or-nothing waits for what becomes of them.
fn prepared(
    mail: &mut Mail,
    terms: &Terms<'_>,
    style: Style,
    room: Room,
) -> Result<Option<ContentStream>, ClientReason> {
    if mail.course == Course::Dealt {
        if let Some(reason) = terms.unfit(mail) {
            return Err(reason);
        }
        mail.limit(terms.most_recipients(), terms.most_domains());
    }
    let content = mail.message.content();
    let framing = match content.body_kind() {
        Some(Body::BinaryMime) => Framing::Raw,
        _ if style == Style::Whole => Framing::Chunked,
        _ => Framing::Dotted,
    };
    let is_late = match style {
        Style::Single => true,
        Style::Envelope | Style::Overlap => framing == Framing::Raw,
        Style::Whole => false,
    };
    let is_answered = mail.course != Course::Dealt && mail.next_pending().is_none();
    // A content is opened once, and so not before the rest of the envelope fits.
    let fits = mail.rest_fits(room);
    if !is_answered && (is_late || mail.message.is_all_or_nothing() || !fits) {
        return Ok(None);
    }
    content.open(framing).map(Some).map_err(ClientReason::Content)
}

/// Says what is left of the mail's envelope and then, with `stream`, DATA or BDAT.
/// Says whether that was all of the transaction that can be said now.
fn envelope(
    flight: &mut Flight<'_>,
    mail: &mut Mail,
    wording: Wording,
    reset: bool,
    stream: Option<ContentStream>,
) -> bool {
    flight.for_mail(mail.tag);
    if mail.course == Course::Dealt {
        if reset {
            flight.reset();
        }
        begin(flight, mail, wording);
    }
    while let Some(place) = mail.next_pending() {
        if stream.is_none() && flight.is_full() {
            return false;
        }
        ask_for(flight, mail, wording, place);
    }
    let Some(stream) = stream else { return false };
    ask_for_content(flight, stream, true);
    true
}

fn begin(flight: &mut Flight<'_>, mail: &mut Mail, wording: Wording) {
    let (line, stated) = wording.mail_line(mail);
    flight.mail(line);
    mail.stated = stated;
    mail.course = Course::Begun;
}

fn ask_for(flight: &mut Flight<'_>, mail: &mut Mail, wording: Wording, place: u32) {
    if let Some(line) = wording.rcpt_line(mail, place) {
        flight.rcpt(line, place);
    }
    mail.asked_to = place + 1;
}

/// `ahead` where the server lets chunks be sent without waiting for replies.
fn ask_for_content(flight: &mut Flight<'_>, stream: ContentStream, ahead: bool) {
    if stream.is_dotted() { flight.data_for(stream) } else { flight.chunks(stream, ahead) }
}
