//! The payloads of the demo: what Bird's documentation shows for LINE, byte for byte, then LINE without Bird, then SMS.

use crate::domain::event::EventType::{
    self, ChannelEvent, ConversationCreated, ConversationMessageCreated, ConversationMessageDeleted,
    ConversationMessageUpdated, MessageCreated,
};
use serde_json::value::RawValue;

/// One account of the demo.
pub(super) struct Channel {
    /// What it is called.
    pub(super) name: &'static str,
    /// Who posts.
    pub(super) sender: &'static str,
    /// Its provider.
    pub(super) provider: &'static str,
    /// What signs its webhooks.
    pub(super) key: &'static str,
    /// The configured id.
    pub(super) id: &'static str,
    /// The rest of its configuration.
    pub(super) settings: &'static str,
}

/// LINE, carried by Bird.
pub(super) const BIRD_LINE: Channel = Channel {
    name: "LINE through Bird",
    sender: "Bird",
    provider: "bird",
    key: "demo-signing-key",
    id: "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01",
    settings: r#"type = "line"
signing_keys = ["demo-signing-key"]"#,
};

/// LINE with nobody in between.
pub(super) const LINE: Channel = Channel {
    name: "LINE, direct",
    sender: "LINE",
    provider: "line",
    key: "00112233445566778899aabbccddeeff",
    id: "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a02",
    settings: r#"type = "line"
channel_secrets = ["00112233445566778899aabbccddeeff"]"#,
};

/// SMS, carried by Bird.
pub(super) const BIRD_SMS: Channel = Channel {
    name: "SMS through Bird",
    sender: "Bird",
    provider: "bird",
    key: "demo-sms-signing-key",
    id: "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a03",
    settings: r#"type = "sms"
address = "+3197010255"
signing_keys = ["demo-sms-signing-key"]"#,
};

/// Every account.
pub(super) const CHANNELS: [&Channel; 3] = [&BIRD_LINE, &LINE, &BIRD_SMS];

/// One payload.
pub(super) struct Sample {
    pub(super) name: &'static str,
    /// Where it is posted.
    pub(super) channel: &'static Channel,
    pub(super) payload: &'static [u8],
    /// What the subscriber must get for it, in this order.
    pub(super) expects: &'static [EventType],
}

impl Sample {
    /// The payload on one line.
    pub(super) fn compact(&self) -> Box<RawValue> {
        let value = serde_json::from_slice::<serde_json::Value>(self.payload).unwrap_or_default();
        serde_json::value::to_raw_value(&value).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

macro_rules! sample {
    ($channel:expr, $name:literal, $case:literal, $expects:expr) => {
        Sample {
            name: $name,
            channel: &$channel,
            payload: include_bytes!(concat!("../../../fixtures/", $case, "/request.json")),
            expects: $expects,
        }
    };
}

/// The end of the message of the fixture `text`.
const UNSEND: &[u8] = br#"{
  "destination": "U8e742f61d673b39c7fff3cecb7536ef0",
  "events": [
    {
      "type": "unsend",
      "unsend": { "messageId": "600000000000000101" },
      "webhookEventId": "01K74V00000000000000000DE0",
      "deliveryContext": { "isRedelivery": false },
      "timestamp": 1760000009000,
      "source": { "type": "user", "userId": "U4af4980629b1d57c9d9a0d6e3f4a1b2c" },
      "mode": "active"
    }
  ]
}"#;

const FIRST: &[EventType] = &[ConversationCreated, ConversationMessageCreated];
const NEXT: &[EventType] = &[ConversationMessageCreated];

/// Bird's in the order of its documentation; in each conversation the later after the earlier.
pub(super) const SAMPLES: &[Sample] = &[
    sample!(BIRD_LINE, "text", "bird/text", FIRST),
    sample!(BIRD_LINE, "text with emoji", "bird/text-emoji", NEXT),
    sample!(BIRD_LINE, "image", "bird/image", NEXT),
    sample!(BIRD_LINE, "file", "bird/file", NEXT),
    sample!(BIRD_LINE, "location", "bird/location", NEXT),
    sample!(BIRD_LINE, "interactive reply", "bird/reply", NEXT),
    sample!(BIRD_LINE, "interactive postback", "bird/postback", NEXT),
    sample!(
        LINE,
        "follow and first text",
        "line/follow",
        &[ConversationCreated, ChannelEvent, ConversationMessageCreated]
    ),
    sample!(LINE, "text", "line/text", NEXT),
    sample!(LINE, "sticker", "line/sticker-text", NEXT),
    sample!(LINE, "image", "line/image", NEXT),
    sample!(LINE, "location", "line/location", NEXT),
    sample!(LINE, "postback", "line/postback", NEXT),
    Sample { name: "unsend of the text", channel: &LINE, payload: UNSEND, expects: &[ConversationMessageDeleted] },
    sample!(
        LINE,
        "text and its edit, in a group",
        "line/edited",
        &[ConversationCreated, ConversationMessageCreated, ConversationMessageUpdated]
    ),
    sample!(BIRD_SMS, "SMS", "bird/sms-inbound", &[ConversationCreated, MessageCreated, ConversationMessageCreated]),
    sample!(
        BIRD_SMS,
        "SMS typed in Bird's inbox",
        "bird/sms-outbound-delivered",
        &[MessageCreated, ConversationMessageCreated]
    ),
];
