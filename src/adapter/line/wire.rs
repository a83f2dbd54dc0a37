//! LINE's JSON, as far as we read it. Every field may be absent, null or of another form than documented.

use crate::adapter::lenient::object;

object! {
    /// What LINE posts.
    struct Webhook {
        /// The bot's user id.
        destination = b"destination",
        /// Any number of events, of any kinds and people.
        events = b"events",
    }

    /// One event.
    struct Event {
        /// `message`, `follow`...
        kind = b"type",
        /// `active` or `standby`.
        mode = b"mode",
        /// Milliseconds since the Unix epoch.
        timestamp = b"timestamp",
        /// Names the event, the same on every redelivery.
        webhook_event_id = b"webhookEventId",
        /// How it was sent.
        delivery_context = b"deliveryContext",
        /// Where it happened.
        source = b"source",
        /// Of `message` and `messageEdited`.
        message = b"message",
        /// Of `postback`.
        postback = b"postback",
        /// Of `unsend`.
        unsend = b"unsend",
    }

    /// How an event was sent.
    struct DeliveryContext {
        /// Whether it was sent before.
        is_redelivery = b"isRedelivery",
    }

    /// Where an event happened.
    struct Source {
        /// `user`, `group` or `room`.
        kind = b"type",
        /// The person, when they agreed to be known.
        user_id = b"userId",
        /// The group.
        group_id = b"groupId",
        /// The room.
        room_id = b"roomId",
    }

    /// The end of a message.
    struct Unsend {
        /// Which.
        message_id = b"messageId",
    }

    /// A tapped button.
    struct Postback {
        /// What its maker put in.
        data = b"data",
        /// What a picker returned.
        params = b"params",
    }

    /// A message of any type: the types share the places of most of what they have.
    struct Message {
        /// LINE's id of it; edits carry that of the original.
        id = b"id",
        /// `text`, `image`...
        kind = b"type",
        /// Of a text or message sticker.
        text = b"text",
        /// LINE emoji in the text.
        emojis = b"emojis",
        /// Mentions in the text.
        mention = b"mention",
        /// The message that this one quotes.
        quoted_message_id = b"quotedMessageId",
        /// Who keeps the bytes of an image, video or audio.
        content_provider = b"contentProvider",
        /// The images that were sent together.
        image_set = b"imageSet",
        /// Milliseconds of a video or audio.
        duration = b"duration",
        /// Of a file.
        file_name = b"fileName",
        /// Bytes of a file.
        file_size = b"fileSize",
        /// Of a location, as are the next three.
        title = b"title",
        /// Postal.
        address = b"address",
        /// Degrees north.
        latitude = b"latitude",
        /// Degrees east.
        longitude = b"longitude",
        /// Of a sticker, as are the next three.
        package_id = b"packageId",
        /// Of the package.
        sticker_id = b"stickerId",
        /// `STATIC`, `ANIMATION`...
        sticker_resource_type = b"stickerResourceType",
        /// What the sticker says, in LINE's words.
        keywords = b"keywords",
    }

    /// One LINE emoji.
    struct Emoji {
        /// Start in the text.
        index = b"index",
        /// Length in the text.
        length = b"length",
        /// LINE's product.
        product_id = b"productId",
        /// LINE's emoji.
        emoji_id = b"emojiId",
    }

    /// All mentions.
    struct Mentions {
        /// One for each.
        mentionees = b"mentionees",
    }

    /// One mention.
    struct Mentionee {
        /// Start in the text.
        index = b"index",
        /// Length in the text.
        length = b"length",
        /// `user` or `all`.
        kind = b"type",
        /// Who, when they agreed to be known.
        user_id = b"userId",
        /// Whether it is the bot.
        is_self = b"isSelf",
    }

    /// Who keeps the bytes.
    struct ContentProvider {
        /// `line` or `external`.
        kind = b"type",
        /// Where the bytes are, at another one than LINE.
        original_content_url = b"originalContentUrl",
        /// Where a reduced picture of them is.
        preview_image_url = b"previewImageUrl",
    }

    /// One of the images that were sent together.
    struct ImageSet {
        /// The set.
        id = b"id",
        /// Place in it, from 1.
        index = b"index",
        /// How many there are.
        total = b"total",
    }
}
