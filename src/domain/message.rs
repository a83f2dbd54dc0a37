//! A conversation message, whichever provider it came from.

use super::address::Address;
use super::ids::{AccountId, ConversationId, CustomerId, MediaId, MessageId};
use super::time::Timestamp;

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a person to the business.
    Incoming,
    /// From the business to a person.
    Outgoing,
}

impl Direction {
    /// VoIPBIN's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
        }
    }
}

/// Where a message stands. How it is spelled depends on the record format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// An incoming message; it has no further states.
    Received,
    /// An outgoing message on its way.
    Sending,
    /// An outgoing message that the platform took.
    Sent,
    /// An outgoing message that the platform brought to the person. Only an SMS record has a word of its own for
    /// it; a conversation message was sent.
    Delivered,
    /// An outgoing message that will not arrive.
    Failed,
}

impl Status {
    /// How final it is: statuses arrive in any order, and only a higher rank replaces a lower one.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Received => 0,
            Self::Sending => 1,
            Self::Sent => 2,
            Self::Delivered | Self::Failed => 3,
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The account it came through.
    pub account_id: AccountId,
    /// The customer it belongs to.
    pub customer_id: CustomerId,
    /// The dialog it is part of.
    pub conversation_id: ConversationId,
    /// Which way it went.
    pub direction: Direction,
    /// Where it stands.
    pub status: Status,
    /// VoIPBIN's `reference_type`: `line` or `message`.
    pub reference_type: &'static str,
    /// The dialog id: a LINE user, group or room id, or a number.
    pub dialog_id: String,
    /// Who wrote it.
    pub source: Address,
    /// Who it was written to.
    pub destination: Address,
    /// Empty together with `medias` only when the message was taken back, or is an outgoing one of which the
    /// provider has told no more than its status.
    pub text: String,
    /// Pictures, places, stickers...
    pub medias: Vec<Media>,
    /// What VoIPBIN's record has no key for.
    pub metadata: Metadata,
    /// How many SMS the provider charges for it, when it says so.
    pub parts: Option<u32>,
    /// The provider's time of the event.
    pub tm_create: Timestamp,
    /// The provider's time of the last change.
    pub tm_update: Timestamp,
    /// When it was deleted, if it was.
    pub tm_delete: Option<Timestamp>,
}

impl Message {
    /// Whether it has nothing to show.
    pub fn is_bare(&self) -> bool {
        self.text.is_empty() && self.medias.is_empty()
    }
}

/// VoIPBIN's nine kinds of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// A sound.
    Audio,
    /// Anything else with bytes.
    File,
    /// A place.
    Location,
    /// A sticker.
    Sticker,
    /// Buttons, cards, lists.
    Template,
    /// A picture with active regions.
    Imagemap,
    /// A free layout.
    Flex,
}

impl MediaKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Image,
        Self::Video,
        Self::Audio,
        Self::File,
        Self::Location,
        Self::Sticker,
        Self::Template,
        Self::Imagemap,
        Self::Flex,
    ];

    /// VoIPBIN's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::File => "file",
            Self::Location => "location",
            Self::Sticker => "sticker",
            Self::Template => "template",
            Self::Imagemap => "imagemap",
            Self::Flex => "flex",
        }
    }

    /// The kind that a MIME type stands for; parameters (`; codecs=opus`) and letter case do not matter.
    pub fn of_mime(mime: &str) -> Self {
        let top = mime.trim_start().split(['/', ';']).next().unwrap_or_default().trim();
        match top.to_ascii_lowercase().as_str() {
            "image" => Self::Image,
            "video" => Self::Video,
            "audio" => Self::Audio,
            _ => Self::File,
        }
    }
}

/// One medium of a message. Its times are the message's.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    /// Its id.
    pub id: MediaId,
    /// What it is.
    pub kind: MediaKind,
    /// The name the sender gave it.
    pub filename: Option<String>,
    /// Where its bytes are, as the provider says it.
    pub url: Option<String>,
    /// Its MIME type, parameters included.
    pub content_type: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its length in milliseconds.
    pub duration_ms: Option<u64>,
    /// Where a reduced picture of it is.
    pub preview_url: Option<String>,
    /// The provider's id of the content.
    pub provider_id: Option<String>,
    /// The place, for [`MediaKind::Location`].
    pub location: Option<Location>,
    /// The sticker, for [`MediaKind::Sticker`].
    pub sticker: Option<Sticker>,
}

impl Media {
    /// The `ordinal`-th medium (from 0) of `message`, with nothing known but its kind.
    pub fn new(message: MessageId, ordinal: usize, kind: MediaKind) -> Self {
        Self {
            id: MediaId::derive(message, ordinal),
            kind,
            filename: None,
            url: None,
            content_type: None,
            size: None,
            duration_ms: None,
            preview_url: None,
            provider_id: None,
            location: None,
            sticker: None,
        }
    }
}

/// A number exactly as the provider wrote it: a valid JSON number, never passed through floating point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal(String);

impl Decimal {
    /// Takes over `text` when it is a JSON number.
    pub fn parse(text: &str) -> Option<Self> {
        Self::is_one(text).then(|| Self(text.to_owned()))
    }

    /// Whether `text` is a JSON number (RFC 8259, section 6).
    pub fn is_one(text: &str) -> bool {
        fn digits(text: &str) -> (&str, &str) {
            text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
        }
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (whole, mut rest) = digits(unsigned);
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
            return false;
        }
        if let Some(after) = rest.strip_prefix('.') {
            let (fraction, after) = digits(after);
            if fraction.is_empty() {
                return false;
            }
            rest = after;
        }
        if let Some(after) = rest.strip_prefix(['e', 'E']) {
            let (exponent, after) = digits(after.strip_prefix(['+', '-']).unwrap_or(after));
            if exponent.is_empty() {
                return false;
            }
            rest = after;
        }
        rest.is_empty()
    }

    /// The number as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Degrees north.
    pub latitude: Option<Decimal>,
    /// Degrees east.
    pub longitude: Option<Decimal>,
    /// What the sender calls it.
    pub title: Option<String>,
    /// Its postal address.
    pub address: Option<String>,
}

/// A LINE sticker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sticker {
    /// LINE's package.
    pub package_id: Option<String>,
    /// LINE's sticker.
    pub sticker_id: Option<String>,
    /// `STATIC`, `ANIMATION`...
    pub resource_type: Option<String>,
    /// What it says, in LINE's words.
    pub keywords: Vec<String>,
}

/// What a message carries beyond VoIPBIN's documented keys. All empty for a plain text message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// LINE emoji in the text.
    pub emojis: Vec<Emoji>,
    /// Mentions in the text.
    pub mentions: Vec<Mention>,
    /// The button that was tapped.
    pub postback: Option<Postback>,
    /// The provider's id of the message this one answers.
    pub reply_to: Option<String>,
    /// LINE's id of the quoted message.
    pub quoted_message_id: Option<String>,
    /// The set of pictures sent together.
    pub image_set: Option<ImageSet>,
    /// The speaking member of a group or room.
    pub sender: Option<Address>,
    /// Another channel holds the conversation: nothing may be answered.
    pub standby: bool,
    /// The provider's own status words of an outgoing message.
    pub provider: Option<ProviderStatus>,
    /// Dotted paths of content that had no home.
    pub unmapped: Vec<String>,
}

/// A LINE emoji; `index` and `length` are UTF-16 code units, as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emoji {
    /// Start of the span.
    pub index: Option<i64>,
    /// Length of the span.
    pub length: Option<i64>,
    /// LINE's product.
    pub product_id: Option<String>,
    /// LINE's emoji.
    pub emoji_id: Option<String>,
    /// The span's text; `None` when the span is not one.
    pub alt: Option<String>,
}

/// A mention; `index` and `length` are UTF-16 code units, as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mention {
    /// Start of the span.
    pub index: Option<i64>,
    /// Length of the span.
    pub length: Option<i64>,
    /// `user`, `all`...
    pub kind: Option<String>,
    /// Who, when they consented.
    pub user_id: Option<String>,
    /// Whether it is us.
    pub is_self: Option<bool>,
}

/// A tapped button.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Postback {
    /// What the button's maker put into it.
    pub payload: Option<String>,
    /// What the button said.
    pub text: Option<String>,
    /// What a picker returned.
    pub params: Vec<(String, String)>,
}

/// One picture of several sent together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSet {
    /// The set.
    pub id: Option<String>,
    /// This picture's place, from 1.
    pub index: Option<i64>,
    /// How many there are.
    pub total: Option<i64>,
}

/// What the provider says about an outgoing message, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProviderStatus {
    /// Its status word.
    pub status: Option<String>,
    /// Its reason.
    pub reason: Option<String>,
    /// Its failure code.
    pub failure: Option<String>,
}

/// The texts of `spans` (index, length) of `text`, all in UTF-16 code units.
///
/// `None` for a span that is missing a bound, is out of range, splits a surrogate pair, or overlaps one that
/// begins earlier in the text (of two that begin together, the one listed first stands).
pub fn span_texts(text: &str, spans: &[(Option<i64>, Option<i64>)]) -> Vec<Option<String>> {
    let mut by_start: Vec<(usize, std::ops::Range<usize>)> = spans
        .iter()
        .enumerate()
        .filter_map(|(place, &(index, length))| {
            let start = usize::try_from(index?).ok()?;
            let end = start.checked_add(usize::try_from(length?).ok()?)?;
            Some((place, start..end))
        })
        .collect();
    by_start.sort_by_key(|(place, range)| (range.start, *place));

    let offsets = if by_start.is_empty() { Vec::new() } else { utf16_offsets(text) };
    let byte = |unit: usize| offsets.get(unit).copied().flatten();
    let mut found = vec![None; spans.len()];
    let mut taken = 0;
    for (place, range) in by_start {
        if range.start < taken {
            continue;
        }
        if let (Some(from), Some(to)) = (byte(range.start), byte(range.end)) {
            found[place] = Some(text[from..to].to_owned());
            taken = range.end;
        }
    }
    found
}

/// The byte offset of every UTF-16 offset, the end included; `None` inside a surrogate pair. Made once per text:
/// counting anew for every span would let a long text with many spans take minutes.
fn utf16_offsets(text: &str) -> Vec<Option<usize>> {
    let mut offsets = Vec::with_capacity(text.len() + 1);
    for (byte, c) in text.char_indices() {
        offsets.push(Some(byte));
        if c.len_utf16() == 2 {
            offsets.push(None);
        }
    }
    offsets.push(Some(text.len()));
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alts(text: &str, spans: &[(i64, i64)]) -> Vec<Option<String>> {
        let spans: Vec<_> = spans.iter().map(|&(i, l)| (Some(i), Some(l))).collect();
        span_texts(text, &spans)
    }

    #[test]
    fn spans_count_utf16_units() {
        assert_eq!(alts("😀 hi (love)", &[(6, 6)]), [Some("(love)".into())]);
        assert_eq!(alts("é🇯🇵👨‍👩‍👧(emoji)x", &[(13, 7)]), [Some("(emoji)".into())]);
        assert_eq!(alts("()hello", &[(0, 2), (2, 0)]), [Some("()".into()), Some(String::new())]);
    }

    #[test]
    fn spans_that_are_none_have_no_text() {
        assert_eq!(alts("😀x", &[(1, 1), (0, 1), (2, 1)]), [None, None, Some("x".into())]);
        assert_eq!(
            alts("abc", &[(2, 2), (-1, 1), (1, -1), (i64::MAX, i64::MAX), (3, 0)]),
            [None, None, None, None, Some(String::new())]
        );
        assert_eq!(span_texts("abc", &[(None, Some(1)), (Some(0), None)]), [None, None]);
    }

    #[test]
    fn the_later_of_two_that_overlap_has_no_text() {
        assert_eq!(alts("abcdef", &[(0, 3), (2, 2), (3, 1)]), [Some("abc".into()), None, Some("d".into())]);
        assert_eq!(alts("abcdef", &[(2, 2), (0, 3)]), [None, Some("abc".into())]);
        assert_eq!(alts("abcdef", &[(0, 2), (0, 3)]), [Some("ab".into()), None]);
    }

    #[test]
    fn decimals_keep_every_digit_and_refuse_what_json_refuses() {
        for good in ["52.378653", "35", "-0.0", "4.90012400000000000001", "1e-7", "1E+2", "0"] {
            assert_eq!(Decimal::parse(good).map(|d| d.as_str().to_owned()).as_deref(), Some(good));
        }
        for bad in ["", "-", "+1", "01", ".5", "5.", "1e", "0x1", "NaN", "1 ", " 1", "1.2.3"] {
            assert_eq!(Decimal::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn mime_types_name_kinds() {
        assert_eq!(MediaKind::of_mime("audio/ogg; codecs=opus"), MediaKind::Audio);
        assert_eq!(MediaKind::of_mime("VIDEO/mp4"), MediaKind::Video);
        assert_eq!(MediaKind::of_mime(" image/webp"), MediaKind::Image);
        assert_eq!(MediaKind::of_mime("application/pdf"), MediaKind::File);
        assert_eq!(MediaKind::of_mime(""), MediaKind::File);
    }
}
