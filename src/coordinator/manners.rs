//! What has been learnt about a host's server: how much may be sent to it at
//! once, and which of its offers are not to be taken up. It is known per host and
//! for as long as the mailer lives, whatever connection showed it.

use std::fmt;

use super::terms::Stated;
use crate::extensions::{Extension, ExtensionSet, Extensions};
use crate::host::Pipeline;

/// How a lane speaks to its server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Style {
    /// One command at a time.
    Single,
    /// The envelope and DATA at once, then the content.
    Envelope,
    /// A content and the next envelope at once (RFC 2920 §3.1).
    Overlap,
    /// Whole transactions at once (RFC 3030 §4.2).
    Whole,
}

impl Style {
    /// Whether this is how level 2 is spoken.
    pub(super) fn is_full(self) -> bool {
        self >= Style::Overlap
    }
}

/// What went wrong in a flight of several things.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Misstep {
    /// The server answered with the wrong number of replies, or what is no reply.
    Replies,
    /// It refused a command for standing where it stood.
    Sequence,
    /// Some replies did not come, or the connection is gone.
    Silence {
        /// Whether some of the flight's replies had come.
        was_begun: bool,
        /// Whether it was the time that ran out.
        was_late: bool,
    },
    /// It does not know BDAT, or not where it stood.
    Chunks,
}

/// What has been learnt, and is worth a line in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Lesson {
    /// From now on no more is pipelined to the host than this.
    Pipeline(Pipeline),
    /// This extension of the host's is not used any more.
    Extension(Extension),
}

impl fmt::Display for Lesson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lesson::Pipeline(most) => {
                write!(f, "it does not stand pipelining; level {} at the most from now on", most.level())
            }
            Lesson::Extension(extension) => {
                write!(f, "it does not stand {}, which is not used from now on", extension.keyword())
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Manners {
    most: Pipeline,
    /// Whether the host has answered flights of [`Style::Overlap`] or
    /// [`Style::Whole`] as it should: after that, what is lost is bad luck.
    is_proven: bool,
    /// Extensions that are not used although they are offered.
    lacks: ExtensionSet,
    /// Those whose parameters MAIL was accepted with.
    stands: ExtensionSet,
    /// Whether any MAIL was accepted, and one with raw parameters.
    takes_mail: bool,
    takes_raw: bool,
}

impl Manners {
    pub(super) fn new(most: Pipeline) -> Manners {
        let none = ExtensionSet::EMPTY;
        Manners { most, is_proven: false, lacks: none, stands: none, takes_mail: false, takes_raw: false }
    }

    /// How to speak to a server that offers this.
    pub(super) fn style(&self, offered: &Extensions) -> Style {
        if !offered.offers(Extension::Pipelining) {
            return Style::Single;
        }
        match self.most {
            Pipeline::Single => Style::Single,
            Pipeline::Envelope => Style::Envelope,
            Pipeline::Full if self.uses(offered, Extension::Chunking) => Style::Whole,
            Pipeline::Full => Style::Overlap,
        }
    }

    /// What is offered and not to be used.
    pub(super) fn lacks(&self) -> ExtensionSet {
        self.lacks
    }

    /// MAIL was accepted with these parameters.
    pub(super) fn accepted(&mut self, stated: Stated) {
        self.takes_mail = true;
        self.takes_raw |= stated.has_raw;
        self.stands = self.stands.union(stated.asked).union(stated.unasked);
    }

    /// Which of a MAIL's parameters the host has never accepted. Where it has accepted
    /// raw ones, none of them counts.
    pub(super) fn suspects(&self, stated: Stated) -> Stated {
        Stated {
            unasked: stated.unasked.without(self.stands),
            asked: stated.asked.without(self.stands),
            has_raw: stated.has_raw && !self.takes_raw,
        }
    }

    /// Whether the host has accepted any MAIL.
    pub(super) fn takes_mail(&self) -> bool {
        self.takes_mail
    }

    fn uses(&self, offered: &Extensions, extension: Extension) -> bool {
        offered.offers(extension) && !self.lacks.contains(extension)
    }

    /// Parameters that were added unasked were refused: says which ones are not
    /// used from now on.
    pub(super) fn refused(&mut self, parameters: ExtensionSet) -> ExtensionSet {
        let news = parameters.without(self.lacks);
        self.lacks = self.lacks.union(parameters);
        news
    }

    /// The most that is sent at once.
    pub(super) fn most(&self) -> Pipeline {
        self.most
    }

    /// A flight of several things was answered as it should be.
    pub(super) fn went_well(&mut self, style: Style) {
        self.is_proven |= style.is_full();
    }

    /// A flight of several things went wrong; gives what is different from now on.
    pub(super) fn went_wrong(&mut self, style: Style, misstep: Misstep) -> Option<Lesson> {
        if misstep == Misstep::Chunks {
            self.most = self.most.min(Pipeline::Envelope);
            let is_news = !self.refused(Extension::Chunking.into()).is_empty();
            return is_news.then_some(Lesson::Extension(Extension::Chunking));
        }
        let is_telling = match misstep {
            Misstep::Replies | Misstep::Sequence | Misstep::Chunks => true,
            // Where some replies came in time and the rest never did, input was lost.
            Misstep::Silence { was_begun: true, was_late: true } => true,
            Misstep::Silence { .. } => style.is_full() && !self.is_proven,
        };
        let most = match style {
            _ if !is_telling => return None,
            Style::Single => return None,
            Style::Envelope => Pipeline::Single,
            Style::Overlap | Style::Whole => Pipeline::Envelope,
        };
        let is_news = most < self.most;
        self.most = self.most.min(most);
        is_news.then_some(Lesson::Pipeline(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::Reply;

    fn offered(lines: &str) -> Extensions {
        Extensions::from_reply(Reply::parse(format!("250-mx\r\n{lines}250 HELP\r\n").as_bytes()).unwrap())
    }

    const LOST: Misstep = Misstep::Silence { was_begun: true, was_late: false };
    const LATE: Misstep = Misstep::Silence { was_begun: true, was_late: true };

    #[test]
    fn nothing_is_pipelined_unless_it_is_wanted_and_offered() {
        let all = offered("250-PIPELINING\r\n250-CHUNKING\r\n");
        assert_eq!(Manners::new(Pipeline::Single).style(&all), Style::Single);
        assert_eq!(Manners::new(Pipeline::Envelope).style(&all), Style::Envelope);
        assert_eq!(Manners::new(Pipeline::Full).style(&all), Style::Whole);
        assert_eq!(Manners::new(Pipeline::Full).style(&offered("250-PIPELINING\r\n")), Style::Overlap);
        for level in [Pipeline::Single, Pipeline::Envelope, Pipeline::Full] {
            assert_eq!(Manners::new(level).style(&offered("250-CHUNKING\r\n")), Style::Single);
        }
    }

    #[test]
    fn the_first_misstep_ends_level_2_and_is_told_once() {
        let all = offered("250-PIPELINING\r\n250-CHUNKING\r\n");
        for misstep in [Misstep::Replies, Misstep::Sequence, LOST, LATE] {
            let mut manners = Manners::new(Pipeline::Full);
            let lesson = manners.went_wrong(Style::Overlap, misstep);
            assert_eq!(lesson, Some(Lesson::Pipeline(Pipeline::Envelope)));
            assert_eq!(manners.went_wrong(Style::Overlap, misstep), None);
            assert_eq!(manners.style(&all), Style::Envelope);
        }
    }

    #[test]
    fn a_loss_is_bad_luck_where_level_2_has_worked() {
        let mut manners = Manners::new(Pipeline::Full);
        manners.went_well(Style::Whole);
        assert_eq!(manners.went_wrong(Style::Whole, LOST), None);
        assert!(manners.went_wrong(Style::Whole, LATE).is_some(), "input was lost");
        let mut manners = Manners::new(Pipeline::Full);
        manners.went_well(Style::Whole);
        assert!(manners.went_wrong(Style::Whole, Misstep::Replies).is_some());
    }

    #[test]
    fn at_level_1_only_wrong_replies_and_missing_ones_tell() {
        let mut manners = Manners::new(Pipeline::Envelope);
        assert_eq!(manners.went_wrong(Style::Envelope, LOST), None);
        let lesson = manners.went_wrong(Style::Envelope, LATE);
        assert_eq!(lesson, Some(Lesson::Pipeline(Pipeline::Single)));
        assert_eq!(manners.went_wrong(Style::Single, Misstep::Replies), None);
    }
}
