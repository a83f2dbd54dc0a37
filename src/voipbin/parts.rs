//! What both record formats have in common: addresses and everything we add to VoIPBIN's records.
//!
//! Additions come after VoIPBIN's own keys, and an absent or empty one is left out.

use super::json::{ELEMENT, Json, key};
use crate::domain::address::Address;
use crate::domain::message::{Emoji, ImageSet, Location, Media, Mention, Metadata, Postback, ProviderStatus, Sticker};

/// How a format writes an address under a key.
pub(super) type WriteAddress = fn(&mut Json, &'static str, &Address);

/// An address with all five keys.
pub(super) fn full_address(json: &mut Json, key: &'static str, address: &Address) {
    let Address { kind, target, target_name } = address;
    json.object(key, |json| {
        json.word(key!("type"), kind.as_str());
        json.text(key!("target"), target);
        json.text(key!("target_name"), target_name);
        json.word(key!("name"), "");
        json.word(key!("detail"), "");
    });
}

/// An address without its empty keys.
pub(super) fn short_address(json: &mut Json, key: &'static str, address: &Address) {
    let Address { kind, target, target_name } = address;
    json.object(key, |json| {
        json.word(key!("type"), kind.as_str());
        json.filled(key!("target"), Some(target));
        json.filled(key!("target_name"), Some(target_name));
    });
}

/// The keys that we add to a medium.
pub(super) fn media_extras(json: &mut Json, media: &Media) {
    json.filled(key!("url"), media.url.as_deref());
    json.filled(key!("content_type"), media.content_type.as_deref());
    json.given(key!("size"), media.size);
    json.given(key!("duration_ms"), media.duration_ms);
    json.filled(key!("preview_url"), media.preview_url.as_deref());
    json.filled(key!("provider_id"), media.provider_id.as_deref());
    if let Some(Location { latitude, longitude, title, address }) = &media.location {
        json.object(key!("location"), |json| {
            if let Some(latitude) = latitude {
                json.verbatim(key!("latitude"), latitude.as_str());
            }
            if let Some(longitude) = longitude {
                json.verbatim(key!("longitude"), longitude.as_str());
            }
            json.filled(key!("title"), title.as_deref());
            json.filled(key!("address"), address.as_deref());
        });
    }
    if let Some(Sticker { package_id, sticker_id, resource_type, keywords }) = &media.sticker {
        json.object(key!("sticker"), |json| {
            json.filled(key!("package_id"), package_id.as_deref());
            json.filled(key!("sticker_id"), sticker_id.as_deref());
            json.filled(key!("resource_type"), resource_type.as_deref());
            texts(json, key!("keywords"), keywords);
        });
    }
}

/// The `metadata` of a message; left out when there is nothing in it, so that a plain message has exactly VoIPBIN's
/// keys.
pub(super) fn metadata(json: &mut Json, metadata: &Metadata, address: WriteAddress) {
    if *metadata == Metadata::default() {
        return;
    }
    json.object(key!("metadata"), |json| {
        if !metadata.emojis.is_empty() {
            json.list(key!("emojis"), &metadata.emojis, emoji);
        }
        if !metadata.mentions.is_empty() {
            json.list(key!("mentions"), &metadata.mentions, mention);
        }
        if let Some(tapped) = &metadata.postback {
            postback(json, tapped);
        }
        json.filled(key!("reply_to"), metadata.reply_to.as_deref());
        json.filled(key!("quoted_message_id"), metadata.quoted_message_id.as_deref());
        if let Some(ImageSet { id, index, total }) = &metadata.image_set {
            json.object(key!("image_set"), |json| {
                json.filled(key!("id"), id.as_deref());
                json.given(key!("index"), *index);
                json.given(key!("total"), *total);
            });
        }
        if let Some(sender) = &metadata.sender {
            address(json, key!("sender"), sender);
        }
        if metadata.standby {
            json.value(key!("standby"), true);
        }
        if let Some(ProviderStatus { status, reason, failure }) = &metadata.provider {
            json.object(key!("provider"), |json| {
                json.filled(key!("status"), status.as_deref());
                json.filled(key!("reason"), reason.as_deref());
                json.filled(key!("failure"), failure.as_deref());
            });
        }
        texts(json, key!("unmapped"), &metadata.unmapped);
    });
}

fn emoji(json: &mut Json, emoji: &Emoji) {
    let Emoji { index, length, product_id, emoji_id, alt } = emoji;
    json.object(ELEMENT, |json| {
        json.given(key!("index"), *index);
        json.given(key!("length"), *length);
        json.filled(key!("product_id"), product_id.as_deref());
        json.filled(key!("emoji_id"), emoji_id.as_deref());
        // Always there: null says that the span is none.
        match alt {
            Some(alt) => json.text(key!("alt"), alt),
            None => json.null(key!("alt")),
        }
    });
}

fn mention(json: &mut Json, mention: &Mention) {
    let Mention { index, length, kind, user_id, is_self } = mention;
    json.object(ELEMENT, |json| {
        json.given(key!("index"), *index);
        json.given(key!("length"), *length);
        json.filled(key!("type"), kind.as_deref());
        json.filled(key!("user_id"), user_id.as_deref());
        json.given(key!("is_self"), *is_self);
    });
}

fn postback(json: &mut Json, postback: &Postback) {
    let Postback { payload, text, params } = postback;
    json.object(key!("postback"), |json| {
        json.filled(key!("payload"), payload.as_deref());
        json.filled(key!("text"), text.as_deref());
        if !params.is_empty() {
            json.object(key!("params"), |json| params.iter().for_each(|(key, value)| json.entry(key, value)));
        }
    });
}

/// A list of texts, left out when it is empty.
fn texts(json: &mut Json, key: &'static str, texts: &[String]) {
    if !texts.is_empty() {
        json.list(key, texts, |json, text| json.text(ELEMENT, text));
    }
}
