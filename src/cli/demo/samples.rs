//! The payloads of the demo: what Bird's documentation shows for LINE, byte for byte.

use serde_json::value::RawValue;

/// One payload.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) provider: &'static str,
    pub(super) payload: &'static [u8],
}

impl Sample {
    /// The payload on one line.
    pub(super) fn compact(&self) -> Box<RawValue> {
        let value = serde_json::from_slice::<serde_json::Value>(self.payload).unwrap_or_default();
        serde_json::value::to_raw_value(&value).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

macro_rules! bird {
    ($name:literal, $case:literal) => {
        Sample {
            name: $name,
            provider: "bird",
            payload: include_bytes!(concat!("../../../fixtures/bird/", $case, "/request.json")),
        }
    };
}

/// In the order of the documentation.
pub(super) const SAMPLES: &[Sample] = &[
    bird!("text", "text"),
    bird!("text with emoji", "text-emoji"),
    bird!("image", "image"),
    bird!("file", "file"),
    bird!("location", "location"),
    bird!("interactive reply", "reply"),
    bird!("interactive postback", "postback"),
];
