//! Several things in one flight: levels 1 and 2, and LMTP.

use smtp_bulk::{EventKind, Step};

use EventKind as K;

use crate::peers::*;
use crate::rows::{Fate, Link, Row, Scene, Setting, Then, Way};

/// Level 1: an envelope, and its content.
pub const LEVEL_1: &[&[Row]] =
    &[&envelope(Way::Envelope, 0), BEHIND_A_REFUSED_ONE, &content(Way::Envelope, Link::Fit), ALONE];

/// Level 2 without CHUNKING: the content of the first mail, and the envelope of the
/// second, which is the last of them.
pub const OVERLAP: &[&[Row]] =
    &[&content(Way::Overlap, Link::AtContent), &envelope(Way::Overlap, 1), BEHIND_A_CONTENT];

/// Level 2 with CHUNKING: the second of three mails.
pub const WHOLE: &[&[Row]] = &[ENVELOPE_OF_A_WHOLE, CHUNK_OF_A_WHOLE];

/// LMTP: the content's replies to three recipients.
pub const LMTP: &[&[Row]] = &[EACH_ITS_OWN];

// ---- with DATA --------------------------------------------------------------------

/// Where a mail stands among the lane's.
#[derive(Clone, Copy)]
struct Spot {
    way: Way,
    place: usize,
}

impl Spot {
    /// Mails before it are delivered, and those behind it go on with the lane, unless
    /// it is said otherwise.
    const fn row(self, kind: K, step: Step, about: &'static str, scene: Scene) -> Row {
        let row = Row::new(self.way, kind, step, about, scene).at(self.place);
        row.amid(Fate::Delivered, Fate::GoesOn)
    }
}

/// An envelope with DATA. Behind a 354 a mail is given up by closing.
const fn envelope(way: Way, place: usize) -> [Row; 36] {
    use Fate as F;
    let on = Spot { way, place };
    [
        on.row(K::Pass, Step::Mail, "", Scene::Mail).leaves(Link::Unfit).ends(F::GoesOn),
        on.row(K::Pass, Step::Rcpt, "", Scene::Two).leaves(Link::Unfit).ends(F::GoesOn),
        on.row(K::Pass, Step::Rcpt, "all or nothing", Scene::AllOrNothing).ends(F::GoesOn),
        on.row(K::Pass, Step::Data, "", Scene::Mail).leaves(Link::Unfit).ends(F::GoesOn),
        on.row(K::Fail, Step::Mail, "4yz", Scene::Mail).when("MAIL", ALL_4, Link::Fit).ends(F::Again),
        on.row(K::Fail, Step::Mail, "5yz", Scene::Mail).when("MAIL", REFUSES, Link::Fit).ends(F::Refused),
        on.row(K::Fail, Step::Mail, "5yz, then 354", Scene::Mail)
            .when("MAIL", REFUSES, Link::AtContent)
            .then(Then::GoesAhead)
            .only(Setting::is_smtp)
            .ends(F::Refused),
        on.row(K::Fail, Step::Mail, "5yz, then 250 354", Scene::Mail)
            .when("MAIL", REFUSES, Link::Unfit)
            .then(Then::Takes)
            .ends(F::Refused),
        on.row(K::Fail, Step::Mail, SESSION_BLAME, Scene::Mail)
            .when("MAIL", CONFUSED, Link::Doubtful)
            .ends(F::Free),
        on.row(K::Fail, Step::Mail, "421", Scene::Mail).when("MAIL", CLOSING, Link::Unfit).ends(F::Free),
        on.row(K::Fail, Step::Mail, "SMTPUTF8 missing", Scene::Utf8).ends(F::Refused),
        on.row(K::Fail, Step::Mail, "source does not open", Scene::Unreadable).ends(F::Refused),
        on.row(K::Fail, Step::Mail, SHORTAGE, Scene::Short).ends(F::Free),
        on.row(K::Fail, Step::Rcpt, "4yz", Scene::Two).when("RCPT", DEFERS, Link::Unfit).ends_for_one(
            F::GoesOnWithout,
            F::Again,
            F::GoesOn,
        ),
        on.row(K::Fail, Step::Rcpt, "5yz", Scene::Two).when("RCPT", REFUSES, Link::Unfit).ends_for_one(
            F::GoesOnWithout,
            F::Refused,
            F::GoesOn,
        ),
        on.row(K::Fail, Step::Rcpt, "too many", Scene::Two)
            .when("second RCPT", TOO_MANY, Link::Unfit)
            .ends_for_one(F::GoesOnWithout, F::Again, F::GoesOn),
        on.row(K::Fail, Step::Rcpt, "4yz, nobody left", Scene::Mail)
            .when("RCPT", DEFERS, Link::Fit)
            .ends(F::Again),
        on.row(K::Fail, Step::Rcpt, "5yz, nobody left", Scene::Mail)
            .when("RCPT", REFUSES, Link::Fit)
            .ends(F::Refused),
        on.row(K::Fail, Step::Rcpt, "4yz, nobody left, then 354", Scene::Mail)
            .when("RCPT", DEFERS, Link::AtContent)
            .then(Then::GoesAhead)
            .only(Setting::is_smtp)
            .ends(F::Again),
        on.row(K::Fail, Step::Rcpt, "5yz, nobody left, then 354", Scene::Mail)
            .when("RCPT", REFUSES, Link::AtContent)
            .then(Then::GoesAhead)
            .only(Setting::is_smtp)
            .ends(F::Refused),
        on.row(K::Fail, Step::Rcpt, "all or nothing, 4yz", Scene::AllOrNothing)
            .when("RCPT", DEFERS, Link::Fit)
            .ends(F::Again),
        on.row(K::Fail, Step::Rcpt, "all or nothing, 5yz", Scene::AllOrNothing)
            .when("RCPT", REFUSES, Link::Fit)
            .ends(F::Refused),
        on.row(K::Fail, Step::Rcpt, SESSION_BLAME, Scene::Two)
            .when("RCPT", CONFUSED, Link::Unfit)
            .ends(F::Free),
        on.row(K::Fail, Step::Rcpt, "500 502 503 530 538, nobody left", Scene::Mail)
            .when("RCPT", CONFUSED, Link::Doubtful)
            .ends(F::Free),
        on.row(K::Fail, Step::Rcpt, "421", Scene::Two).when("RCPT", CLOSING, Link::Unfit).ends(F::Free),
        on.row(K::Fail, Step::Data, "4yz", Scene::Mail).when("DATA", ALL_4, Link::Fit).ends(F::Again),
        on.row(K::Fail, Step::Data, "5yz", Scene::Mail).when("DATA", REFUSES, Link::Fit).ends(F::Refused),
        on.row(K::Fail, Step::Data, SESSION_BLAME, Scene::Mail)
            .when("DATA", CONFUSED, Link::Doubtful)
            .ends(F::Free),
        on.row(K::Fail, Step::Data, "421", Scene::Mail).when("DATA", CLOSING, Link::Unfit).ends(F::Free),
        on.row(K::Hang, Step::Mail, "", Scene::Mail).when("MAIL", LOST, Link::Unfit).ends(F::Again),
        on.row(K::Hang, Step::Mail, "wrong kind", Scene::Mail)
            .when("MAIL", WRONG, Link::Unfit)
            .ends(F::Again)
            .amid(F::InDoubt, F::Free),
        on.row(K::Hang, Step::Rcpt, "", Scene::Two).when("RCPT", LOST, Link::Unfit).ends(F::Again),
        on.row(K::Hang, Step::Rcpt, "wrong kind", Scene::Two)
            .when("RCPT", WRONG, Link::Unfit)
            .ends(F::Again)
            .amid(F::InDoubt, F::Free),
        on.row(K::Hang, Step::Data, "", Scene::Mail).when("DATA", LOST, Link::Unfit).ends(F::Again),
        on.row(K::Hang, Step::Data, "wrong kind", Scene::Mail)
            .when("DATA", WRONG_GO_AHEAD, Link::Unfit)
            .ends(F::Again)
            .amid(F::InDoubt, F::Free),
        on.row(K::Hang, Step::Data, "a reply too many", Scene::Mail)
            .when("DATA", ONE_MORE_GO_AHEAD, Link::Unfit)
            .ends(F::Again)
            .amid(F::InDoubt, F::Free),
    ]
}

/// RSET in the flight of the mail behind a refused one.
const BEHIND_A_REFUSED_ONE: &[Row] = {
    use Fate as F;
    let on = Spot { way: Way::Envelope, place: 0 };
    &[
        on.row(K::Fail, Step::Rset, "4yz 5yz", Scene::Behind)
            .when("RSET", ALL_5, Link::Doubtful)
            .ends(F::Free),
        on.row(K::Fail, Step::Rset, "4yz 5yz, then 354", Scene::Behind)
            .when("RSET", ALL_5, Link::Unfit)
            .then(Then::Takes)
            .ends(F::Free),
        on.row(K::Fail, Step::Rset, "421", Scene::Behind).when("RSET", CLOSING, Link::Unfit).ends(F::Free),
        on.row(K::Hang, Step::Rset, "", Scene::Behind).when("RSET", GONE, Link::Unfit).ends(F::Free),
        on.row(K::Hang, Step::Mail, "nothing sent yet", Scene::Dead).leaves(Link::Unfit).ends(F::Free),
    ]
};

/// A content behind its 354. What comes of a mail whose envelope went with it is
/// settled by the lane: it goes on, or back.
const fn content(way: Way, fit: Link) -> [Row; 9] {
    use Fate as F;
    let on = Spot { way, place: 0 };
    [
        on.row(K::Pass, Step::Content, "", Scene::Mail).leaves(fit).ends(F::Delivered),
        on.row(K::Fail, Step::Content, "4yz", Scene::Mail).when("content", ALL_4, fit).ends(F::Again),
        on.row(K::Fail, Step::Content, "5yz", Scene::Mail).when("content", ALL_5, fit).ends(F::Refused),
        on.row(K::Fail, Step::Content, "421", Scene::Mail)
            .when("content", CLOSING, Link::Unfit)
            .ends(F::Free),
        on.row(K::Fail, Step::Content, "4yz amid it", Scene::Mail)
            .when("mid-content", ALL_4, Link::Unfit)
            .ends(F::Again),
        on.row(K::Fail, Step::Content, "5yz amid it", Scene::Mail)
            .when("mid-content", ALL_5, Link::Unfit)
            .ends(F::Refused),
        on.row(K::Fail, Step::Content, "source breaks", Scene::Broken).leaves(Link::Unfit).ends(F::Refused),
        on.row(K::Hang, Step::Content, "last octet not sent", Scene::Mail)
            .when("mid-content", CUT, Link::Unfit)
            .ends(F::Again),
        on.row(K::Hang, Step::Content, "last octet sent", Scene::Mail)
            .when("content", GONE, Link::Unfit)
            .ends(F::InDoubt),
    ]
}

/// Where the content's reply is the only one that is owed.
const ALONE: &[Row] = &[Spot { way: Way::Envelope, place: 0 }
    .row(K::Hang, Step::Content, "behind its reply", Scene::Mail)
    .when("content", SURPLUS, Link::Unfit)
    .ends(Fate::Delivered)];

/// Where an envelope follows it.
const BEHIND_A_CONTENT: &[Row] = {
    use Fate as F;
    let second = Spot { way: Way::Overlap, place: 1 };
    &[
        second
            .row(K::Hang, Step::Mail, "nothing sent yet", Scene::Mail)
            .when("between", BREAKS_OFF, Link::Unfit)
            .ends(F::Free),
        // The others then answer what was asked behind them, and 354 is missing.
        second
            .row(K::Hang, Step::Data, "a reply too many before it", Scene::Mail)
            .when("content before", ONE_MORE, Link::Unfit)
            .ends(F::Again)
            .amid(F::InDoubt, F::None),
    ]
};

// ---- with BDAT --------------------------------------------------------------------

const SECOND: Spot = Spot { way: Way::Whole, place: 1 };
const THIRD: Spot = Spot { way: Way::Whole, place: 2 };

/// All that is in the flight is judged, whatever is said in the middle of it.
const ENVELOPE_OF_A_WHOLE: &[Row] = {
    use Fate as F;
    const fn row(kind: K, step: Step, about: &'static str, scene: Scene) -> Row {
        SECOND.row(kind, step, about, scene).amid(F::Delivered, F::Delivered)
    }
    &[
        row(K::Pass, Step::Mail, "", Scene::Mail).ends(F::Delivered),
        row(K::Pass, Step::Rcpt, "", Scene::Two).ends(F::Delivered),
        // Its content waits, and so does the mail behind it.
        SECOND.row(K::Pass, Step::Rcpt, "all or nothing", Scene::AllOrNothing).ends(F::GoesOn),
        row(K::Fail, Step::Mail, "4yz", Scene::Mail).when("MAIL", ALL_4, Link::Fit).ends(F::Again),
        row(K::Fail, Step::Mail, "5yz", Scene::Mail).when("MAIL", REFUSES, Link::Fit).ends(F::Refused),
        row(K::Fail, Step::Mail, "5yz, then all is taken", Scene::Mail)
            .when("MAIL", REFUSES, Link::Fit)
            .then(Then::Takes)
            .ends(F::Delivered),
        row(K::Fail, Step::Mail, SESSION_BLAME, Scene::Mail)
            .when("MAIL", CONFUSED, Link::Doubtful)
            .ends(F::Free),
        row(K::Fail, Step::Mail, "421", Scene::Mail)
            .when("MAIL", CLOSING, Link::Unfit)
            .ends(F::Free)
            .amid(F::Delivered, F::Free),
        SECOND.row(K::Fail, Step::Mail, "SMTPUTF8 missing", Scene::Utf8).ends(F::Refused),
        SECOND.row(K::Fail, Step::Mail, "source does not open", Scene::Unreadable).ends(F::Refused),
        SECOND.row(K::Fail, Step::Mail, SHORTAGE, Scene::Short).ends(F::Free),
        row(K::Fail, Step::Rcpt, "4yz", Scene::Two).when("RCPT", DEFERS, Link::Fit).ends_for_one(
            F::Again,
            F::Again,
            F::Delivered,
        ),
        row(K::Fail, Step::Rcpt, "5yz", Scene::Two).when("RCPT", REFUSES, Link::Fit).ends_for_one(
            F::Refused,
            F::Refused,
            F::Delivered,
        ),
        row(K::Fail, Step::Rcpt, "too many", Scene::Two)
            .when("second RCPT", TOO_MANY, Link::Fit)
            .ends_for_one(F::Free, F::Free, F::Delivered),
        row(K::Fail, Step::Rcpt, "4yz, nobody left", Scene::Mail)
            .when("RCPT", DEFERS, Link::Fit)
            .ends(F::Again),
        row(K::Fail, Step::Rcpt, "5yz, nobody left", Scene::Mail)
            .when("RCPT", REFUSES, Link::Fit)
            .ends(F::Refused),
        SECOND
            .row(K::Fail, Step::Rcpt, "all or nothing, 4yz", Scene::AllOrNothing)
            .when("RCPT", DEFERS, Link::Fit)
            .ends(F::Again),
        SECOND
            .row(K::Fail, Step::Rcpt, "all or nothing, 5yz", Scene::AllOrNothing)
            .when("RCPT", REFUSES, Link::Fit)
            .ends(F::Refused),
        row(K::Fail, Step::Rcpt, SESSION_BLAME, Scene::Two)
            .when("RCPT", CONFUSED, Link::Doubtful)
            .ends_for_one(F::Free, F::Free, F::Delivered),
        row(K::Fail, Step::Rcpt, "500 502 503 530 538, nobody left", Scene::Mail)
            .when("RCPT", CONFUSED, Link::Doubtful)
            .ends(F::Free),
        row(K::Fail, Step::Rcpt, "421", Scene::Two)
            .when("RCPT", CLOSING, Link::Unfit)
            .ends(F::Free)
            .amid(F::Delivered, F::Free),
        row(K::Hang, Step::Mail, "", Scene::Mail)
            .when("MAIL", LOST, Link::Unfit)
            .ends(F::InDoubt)
            .amid(F::Delivered, F::InDoubt),
        row(K::Hang, Step::Mail, "wrong kind", Scene::Mail)
            .when("MAIL", WRONG, Link::Unfit)
            .ends(F::InDoubt)
            .amid(F::InDoubt, F::InDoubt),
        row(K::Hang, Step::Rcpt, "", Scene::Two)
            .when("RCPT", LOST, Link::Unfit)
            .ends(F::InDoubt)
            .amid(F::Delivered, F::InDoubt),
        row(K::Hang, Step::Rcpt, "wrong kind", Scene::Two)
            .when("RCPT", WRONG, Link::Unfit)
            .ends(F::InDoubt)
            .amid(F::InDoubt, F::InDoubt),
    ]
};

/// The chunk, and RSET between it and the transaction before.
const CHUNK_OF_A_WHOLE: &[Row] = {
    use Fate as F;
    const fn row(kind: K, step: Step, about: &'static str, scene: Scene) -> Row {
        SECOND.row(kind, step, about, scene).amid(F::Delivered, F::Delivered)
    }
    &[
        row(K::Pass, Step::Content, "", Scene::Mail).ends(F::Delivered),
        row(K::Fail, Step::Content, "4yz", Scene::Mail).when("content", ALL_4, Link::Fit).ends(F::Again),
        row(K::Fail, Step::Content, "5yz", Scene::Mail).when("content", REFUSES, Link::Fit).ends(F::Refused),
        row(K::Fail, Step::Content, "503 530 538", Scene::Mail)
            .when("content", NO_BDAT_NOW, Link::Doubtful)
            .ends(F::Free),
        row(K::Fail, Step::Content, "500 502", Scene::Mail)
            .when("content", NO_BDAT, Link::Unfit)
            .ends(F::Free)
            .amid(F::Delivered, F::InDoubt),
        row(K::Fail, Step::Content, "421", Scene::Mail)
            .when("content", CLOSING, Link::Unfit)
            .ends(F::Free)
            .amid(F::Delivered, F::Free),
        row(K::Fail, Step::Content, "4yz amid it", Scene::Mail)
            .when("mid-content", ALL_4, Link::Unfit)
            .ends(F::Again)
            .amid(F::Delivered, F::Free),
        row(K::Fail, Step::Content, "5yz amid it", Scene::Mail)
            .when("mid-content", REFUSES, Link::Unfit)
            .ends(F::Refused)
            .amid(F::Delivered, F::Free),
        row(K::Fail, Step::Content, "421 amid it", Scene::Mail)
            .when("mid-content", CLOSING, Link::Unfit)
            .ends(F::Free)
            .amid(F::Delivered, F::Free),
        row(K::Fail, Step::Content, "source breaks", Scene::Broken)
            .leaves(Link::Unfit)
            .ends(F::Refused)
            .amid(F::Delivered, F::Free),
        row(K::Fail, Step::Rset, "4yz 5yz", Scene::Mail).when("RSET", ALL_5, Link::Doubtful).ends(F::Free),
        row(K::Fail, Step::Rset, "4yz 5yz, then all is taken", Scene::Mail)
            .when("RSET", ALL_5, Link::Doubtful)
            .then(Then::Takes)
            .ends(F::Delivered),
        row(K::Fail, Step::Rset, "421", Scene::Mail)
            .when("RSET", CLOSING, Link::Unfit)
            .ends(F::Free)
            .amid(F::Delivered, F::Free),
        row(K::Hang, Step::Content, "last octet not sent", Scene::Mail)
            .when("mid-content", BREAKS_OFF, Link::Unfit)
            .ends(F::Again)
            .amid(F::Delivered, F::Free),
        row(K::Hang, Step::Content, "last octet sent", Scene::Mail)
            .when("content", LOST, Link::Unfit)
            .ends(F::InDoubt)
            .amid(F::Delivered, F::InDoubt),
        row(K::Hang, Step::Content, "wrong kind", Scene::Mail)
            .when("content", WRONG, Link::Unfit)
            .ends(F::InDoubt)
            .amid(F::InDoubt, F::InDoubt),
        THIRD
            .row(K::Hang, Step::Content, "a reply too many", Scene::Mail)
            .when("content", ONE_MORE, Link::Unfit)
            .ends(F::InDoubt)
            .amid(F::InDoubt, F::None),
        row(K::Hang, Step::Rset, "", Scene::Mail)
            .when("RSET", LOST, Link::Unfit)
            .ends(F::InDoubt)
            .amid(F::Delivered, F::InDoubt),
        row(K::Hang, Step::Rset, "nothing sent yet", Scene::Mail)
            .when("between", BREAKS_OFF, Link::Unfit)
            .ends(F::Free)
            .amid(F::Delivered, F::Free),
    ]
};

// ---- LMTP -------------------------------------------------------------------------

/// The second of three recipients; `before` and `behind` are the other two.
const EACH_ITS_OWN: &[Row] = {
    use Fate as F;
    const fn row(kind: K, step: Step, about: &'static str, scene: Scene) -> Row {
        Row::new(Way::Lmtp, kind, step, about, scene).amid(F::Delivered, F::Delivered)
    }
    &[
        row(K::Pass, Step::Content, "", Scene::Three).ends(F::Delivered),
        row(K::Fail, Step::Content, "4yz", Scene::Three).when("content", ALL_4, Link::Fit).ends(F::Again),
        row(K::Fail, Step::Content, "5yz", Scene::Three).when("content", REFUSES, Link::Fit).ends(F::Refused),
        row(K::Fail, Step::Content, "500 502 503 530 538 by DATA", Scene::Three)
            .when("content", CONFUSED, Link::Fit)
            .only(Setting::is_dotted)
            .ends(F::Refused),
        row(K::Fail, Step::Content, "503 530 538 by BDAT", Scene::Three)
            .when("content", NO_BDAT_NOW, Link::Doubtful)
            .only(Setting::is_chunked)
            .ends(F::Free),
        row(K::Fail, Step::Content, "500 502 by BDAT", Scene::Three)
            .when("content", NO_BDAT, Link::Unfit)
            .only(Setting::is_chunked)
            .cut_off()
            .ends(F::Free)
            .amid(F::Delivered, F::InDoubt),
        row(K::Fail, Step::Content, "421", Scene::Three)
            .when("content", CLOSING, Link::Unfit)
            .ends(F::Free)
            .amid(F::Delivered, F::InDoubt),
        row(K::Fail, Step::Content, "4yz amid it", Scene::Three)
            .when("mid-content", ALL_4, Link::Unfit)
            .ends(F::Again)
            .amid(F::Again, F::Again),
        row(K::Fail, Step::Content, "5yz amid it", Scene::Three)
            .when("mid-content", REFUSES, Link::Unfit)
            .ends(F::Refused)
            .amid(F::Refused, F::Refused),
        row(K::Fail, Step::Content, "421 amid it", Scene::Three)
            .when("mid-content", CLOSING, Link::Unfit)
            .ends(F::Free)
            .amid(F::Free, F::Free),
        row(K::Hang, Step::Content, "last octet not sent", Scene::Three)
            .when("mid-content", BREAKS_OFF, Link::Unfit)
            .ends(F::Again)
            .amid(F::Again, F::Again),
        row(K::Hang, Step::Content, "amid the replies", Scene::Three)
            .when("content", LOST, Link::Unfit)
            .ends(F::InDoubt)
            .amid(F::Delivered, F::InDoubt),
        row(K::Hang, Step::Content, "wrong kind", Scene::Three)
            .when("content", WRONG, Link::Unfit)
            .ends(F::InDoubt)
            .amid(F::InDoubt, F::InDoubt),
        row(K::Hang, Step::Content, "a reply too many", Scene::Three)
            .when("content", ONE_MORE, Link::Unfit)
            .ends(F::InDoubt)
            .amid(F::InDoubt, F::InDoubt),
        row(K::Fail, Step::Rcpt, "4yz, nobody left, then 354", Scene::Mail)
            .when("RCPT", DEFERS, Link::Unfit)
            .then(Then::GoesAhead)
            .only(Setting::asks_early)
            .ends(F::Again)
            .amid(F::None, F::None),
        row(K::Fail, Step::Rcpt, "5yz, nobody left, then 354", Scene::Mail)
            .when("RCPT", REFUSES, Link::Unfit)
            .then(Then::GoesAhead)
            .only(Setting::asks_early)
            .ends(F::Refused)
            .amid(F::None, F::None),
    ]
};
