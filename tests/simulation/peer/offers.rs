//! What a scripted server offers in its answer to EHLO, and what the parameters
//! of MAIL and RCPT may accordingly be.

use super::super::faults::Scene;

/// What was offered, as far as the client makes use of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Offers {
    pub pipelining: bool,
    pub chunking: bool,
    pub binary: bool,
    pub eight_bit: bool,
    pub utf8: bool,
    pub dsn: bool,
    /// SIZE, and 0 where no bound is stated.
    pub size: Option<u64>,
    pub recipients: Option<usize>,
    pub domains: Option<usize>,
}

impl Offers {
    /// Draws the lines of an answer to EHLO.
    pub fn draw(scene: &mut Scene<'_>) -> Vec<String> {
        let faultless = scene.faultless;
        let mut lines = Vec::new();
        let random = &mut *scene.random;
        let mut with = |share: u8, line: &str| {
            if random.u8(0..10) < share {
                lines.push(line.to_owned());
            }
        };
        with(8, "PIPELINING");
        with(5, "CHUNKING");
        with(5, "BINARYMIME");
        with(if faultless { 10 } else { 7 }, "8BITMIME");
        with(3, "SMTPUTF8");
        with(5, "DSN");
        match random.u8(0..4) {
            0 => lines.push("SIZE".into()),
            1 => lines.push("SIZE 10000000".into()),
            2 if !faultless => lines.push(format!("SIZE {}", random.u32(50..2_000))),
            _ => {}
        }
        if random.u8(0..4) == 0 {
            let mut line = "LIMITS".to_owned();
            if random.bool() {
                line.push_str(&format!(" RCPTMAX={}", random.u8(1..5)));
            }
            if random.bool() {
                line.push_str(&format!(" RCPTDOMAINMAX={}", random.u8(1..4)));
            }
            lines.push(line);
        }
        random.shuffle(&mut lines);
        lines
    }

    /// What an answer to EHLO says.
    pub fn read(reply: &[u8]) -> Offers {
        let mut offers = Offers::default();
        for line in String::from_utf8_lossy(reply).lines().skip(1) {
            let mut words = line.get(4..).unwrap_or_default().split(' ');
            match words.next().unwrap_or_default() {
                "PIPELINING" => offers.pipelining = true,
                "CHUNKING" => offers.chunking = true,
                "BINARYMIME" => offers.binary = true,
                "8BITMIME" => offers.eight_bit = true,
                "SMTPUTF8" => offers.utf8 = true,
                "DSN" => offers.dsn = true,
                "SIZE" => offers.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
                "LIMITS" => words.for_each(|limit| offers.read_limit(limit)),
                _ => {}
            }
        }
        offers
    }

    fn read_limit(&mut self, limit: &str) {
        let Some((name, number)) = limit.split_once('=') else { return };
        match name {
            "RCPTMAX" => self.recipients = number.parse().ok(),
            "RCPTDOMAINMAX" => self.domains = number.parse().ok(),
            _ => {}
        }
    }

    /// Nothing is said to a server that it did not offer to understand.
    pub fn check_mail(&self, parameters: &str) {
        for parameter in parameters.split_ascii_whitespace() {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let is_offered = match (name, value) {
                ("SIZE", size) => {
                    let size: u64 = size.parse().expect("a size");
                    self.size.is_some_and(|most| most == 0 || size <= most)
                }
                ("BODY", "BINARYMIME") => self.binary && self.chunking,
                ("BODY", _) => self.eight_bit,
                ("SMTPUTF8", "") => self.utf8,
                ("RET" | "ENVID", _) => self.dsn,
                // Raw ones are said to all.
                ("XODD", _) => true,
                _ => false,
            };
            assert!(is_offered, "{parameter} in MAIL to a server that offers {self:?}");
        }
    }

    pub fn check_rcpt(&self, parameters: &str) {
        for parameter in parameters.split_ascii_whitespace() {
            let name = parameter.split('=').next();
            let is_known = matches!(name, Some("NOTIFY" | "ORCPT"));
            assert!(is_known && self.dsn, "{parameter} in RCPT to a server that offers {self:?}");
        }
    }
}
