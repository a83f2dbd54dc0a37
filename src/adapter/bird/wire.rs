//! Bird's JSON, as far as we read it. Every field may be absent, null or of another form than documented.

use crate::adapter::lenient::object;

object! {
    /// What a webhook subscription posts.
    struct Envelope {
        /// `channels` for everything we understand.
        service = b"service",
        /// `<platform>.<kind>`.
        event = b"event",
        /// The message object.
        payload = b"payload",
    }

    /// A Channels API message.
    struct Message {
        /// Bird's id of it, a UUID.
        id = b"id",
        /// The Bird channel it came through.
        channel_id = b"channelId",
        /// `{contact}` on the way in, `{connector}` on the way out.
        sender = b"sender",
        /// `{connector}` on the way in, `{contacts}` on the way out.
        receiver = b"receiver",
        /// What was written; it may be missing on the way out.
        body = b"body",
        /// What was sent instead of a body.
        template = b"template",
        /// What it answers.
        reply_to = b"replyTo",
        /// The platform's own ids.
        parts = b"parts",
        /// `incoming` or `outgoing`.
        direction = b"direction",
        /// Where an outgoing message stands.
        status = b"status",
        /// Why, in the platform's words.
        reason = b"reason",
        /// Why, in Bird's codes.
        failure = b"failure",
        /// How many SMS it is charged as.
        chargeable_units = b"chargeableUnits",
        /// RFC 3339, as are the next two.
        created_at = b"createdAt",
        /// Last change of the status.
        last_status_at = b"lastStatusAt",
        /// Last change of anything.
        updated_at = b"updatedAt",
    }

    /// The sender of a message.
    struct Sender {
        /// The person.
        contact = b"contact",
        /// Our channel at the platform.
        connector = b"connector",
    }

    /// The receiver of a message.
    struct Receiver {
        /// Our channel at the platform; now and then the person.
        connector = b"connector",
        /// The persons, of whom every platform but e-mail has one.
        contacts = b"contacts",
    }

    /// Why a message will not arrive.
    struct Failure {
        /// Bird's code.
        code = b"code",
    }

    /// A person or one of our channels.
    struct Party {
        /// The platform's id: a LINE user id, a number, a LINE channel id.
        identifier_value = b"identifierValue",
        /// What is known about a person.
        annotations = b"annotations",
    }

    /// What is known about a person.
    struct Annotations {
        /// The display name.
        name = b"name",
    }

    /// The message that this one answers.
    struct ReplyTo {
        /// Bird's id of it.
        id = b"id",
    }

    /// One of the platform's messages that carried it.
    struct Part {
        /// The platform's id.
        platform_reference = b"platformReference",
    }

    /// The content of a body, whichever type it has: the types share most of their keys.
    struct Content {
        /// The text or caption.
        text = b"text",
        /// Buttons, or the one that was tapped.
        actions = b"actions",
        /// Files that came along.
        attachments = b"attachments",
        /// Platform specifics.
        metadata = b"metadata",
        /// Of an image body.
        images = b"images",
        /// Of a file body.
        files = b"files",
        /// Of a gif body.
        media_url = b"mediaUrl",
        /// Of a gif body.
        content_type = b"contentType",
        /// Of a gif body.
        alt_text = b"altText",
        /// Of a location body.
        coordinates = b"coordinates",
        /// Of a location body.
        location = b"location",
    }

    /// An element of images, files or attachments, or anything else with a media URL.
    struct Item {
        /// Where the bytes are.
        media_url = b"mediaUrl",
        /// MIME type.
        content_type = b"contentType",
        /// The sender's name for it.
        filename = b"filename",
        /// A description for those who cannot see it.
        alt_text = b"altText",
    }

    /// Degrees.
    struct Coordinates {
        /// North.
        latitude = b"latitude",
        /// East.
        longitude = b"longitude",
    }

    /// What a place is called.
    struct Place {
        /// Postal address.
        address = b"address",
        /// The sender's name for it.
        label = b"label",
    }

    /// A button.
    struct Action {
        /// Says which of the other keys there is.
        kind = b"type",
        /// A button whose maker is told that it was tapped.
        postback = b"postback",
    }

    /// A tapped button.
    struct Postback {
        /// What its maker put in.
        payload = b"payload",
        /// What it said.
        text = b"text",
    }

    /// Platform specifics of a content.
    struct Specifics {
        /// An e-mail's or MMS's subject.
        subject = b"subject",
        /// What to show where the content cannot be.
        fallback_text = b"fallbackText",
        /// LINE's.
        line = b"line",
    }

    /// LINE's specifics.
    struct Line {
        /// LINE emoji.
        emoji = b"emoji",
    }

    /// LINE emoji.
    struct EmojiItems {
        /// One for each.
        items = b"items",
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
}
